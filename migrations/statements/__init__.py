"""The longer SQL of revisions. As fixed as the revisions: published, it is never edited."""
