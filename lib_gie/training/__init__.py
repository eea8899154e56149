"""From prompts to an adapter: images at several scales, a judge, labels, a fit and its report."""
