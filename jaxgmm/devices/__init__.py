"""Work with arrays that lie on several devices or belong to several processes."""
