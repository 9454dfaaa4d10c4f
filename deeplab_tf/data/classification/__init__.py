"""Images with one label each, for pretraining: folders of classes, or records, as batches."""
