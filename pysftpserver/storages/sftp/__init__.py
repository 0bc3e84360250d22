"""Parts of the storage on another SFTP server: its address, the ssh process, requests in flight, replies."""
