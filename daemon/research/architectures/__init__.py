"""The comparison of architectures: its arms, its budget, what is measured, and the verdicts."""
