"""What a run found, on a page, in a model card and in tables; reads run directories, never torch."""
