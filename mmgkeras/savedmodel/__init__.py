"""The artefact: export to SavedModel, its metadata, versions and model card, and loading it."""
