package main

import (
	"io"
	"strings"

	"rsc.io/qr"
)

// quiet is the white around a QR code, in modules, that readers ask for.
const quiet = 4

// printQR draws a QR code in half blocks, two modules a character, black on white
// whatever the terminal's colours are.
func printQR(w io.Writer, text string) error {
	code, err := qr.Encode(text, qr.L)
	if err != nil {
		return failf(exitFailed, "a QR code cannot hold this: %w", err)
	}
	var b strings.Builder
	for y := -quiet; y < code.Size+quiet; y += 2 {
		b.WriteString("\n\x1b[30;107m")
		for x := -quiet; x < code.Size+quiet; x++ {
			b.WriteString(halves[code.Black(x, y)][code.Black(x, y+1)])
		}
		b.WriteString("\x1b[0m")
	}
	b.WriteString("\n")
	_, err = io.WriteString(w, b.String())
	return err
}

// halves is a character for an upper and a lower module that are black or not.
var halves = map[bool]map[bool]string{
	false: {false: " ", true: "▄"},
	true:  {false: "▀", true: "█"},
}
