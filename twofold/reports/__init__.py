"""Reports of runs: the HTML page, the model card and tables. They read run directories and never import torch."""
