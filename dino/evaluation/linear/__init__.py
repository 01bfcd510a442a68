"""Linear probes on frozen backbones (protocols C.2; paper Table 2, App. F)."""
