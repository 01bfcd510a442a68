"""How well the heads' attention masks cover objects: the Jaccard index on VOC12 (paper.md, C.8; Fig. 4, App. D)."""
