"""The trust campaign: kills, faults of the disk, mutated and forged files, and what becomes of them."""
