"""Results that a PACS takes, and the listener that receives its images. Needs the extra `pacs`."""
