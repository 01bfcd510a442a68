"""Linear probes on frozen backbones (paper.md, C.2; paper Table 2, App. F)."""
