package device

// ParseWritten reads the bytes written from the text of a stat file.
var ParseWritten = parseWritten
