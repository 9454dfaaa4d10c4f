"""What each script does, a module each: flags -> configs -> one call of the library."""
