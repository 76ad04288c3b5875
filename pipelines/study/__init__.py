"""A pairwise user study in the browser: which of two videos of one clip people find better, and why."""
