"""k-NN of teacher and student over the snapshots of a pretraining (paper.md, B.2; Fig. 6, App. D)."""
