"""nn.Modules shared by methods. Needs torch alone."""
