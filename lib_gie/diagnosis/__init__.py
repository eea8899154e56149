"""What ``lib-gie doctor`` looks at: packages, device, files, and a WebUI's folder. Nothing is downloaded or changed."""
