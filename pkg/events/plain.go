package events

import "bytes"

const (
	plainDepth  = 8  // levels of a plain value; deeper ones are read carefully
	plainDigits = 15 // of a plain integer: below 2^53
)

// isPlain says whether a value is one that is canonical as it is, as nearly all are (plainValue).
func isPlain(v []byte) bool { return len(v) > 0 && plainValue(v, plainDepth) == len(v) }

// plainValue is the length of the value that b begins with, where that is canonical as it is: a literal, a string of printable ASCII
// without escapes, an integer of few digits that is not negative, or lists of such and objects of such with their keys in order,
// without white space. It is 0 for everything else, which may be canonical all the same, and too short for a number that goes on as
// something else.
func plainValue(b []byte, depth int) int {
	if len(b) == 0 {
		return 0
	}
	switch c := b[0]; {
	case c == '"':
		return plainString(b)
	case c == '{' || c == '[':
		return plainItems(b, depth)
	case c == '0':
		return 1
	case c >= '1' && c <= '9':
		n := 1
		for n < len(b) && b[n] >= '0' && b[n] <= '9' {
			n++
		}
		if n <= plainDigits {
			return n
		}
		return 0
	}
	for _, literal := range []string{"true", "false", "null"} {
		if len(b) >= len(literal) && string(b[:len(literal)]) == literal {
			return len(literal)
		}
	}
	return 0
}

// plainString is the length of a plain string with its quotes.
func plainString(b []byte) int {
	for i := 1; i < len(b); i++ {
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c < ' ' || c > '~' || c == '\\':
			return 0
		}
	}
	return 0
}

// plainItems is the length of a plain list or object.
func plainItems(b []byte, depth int) int {
	closing := b[0] + 2 // as ASCII has them
	if depth == 0 || len(b) < 2 {
		return 0
	}
	if b[1] == closing {
		return 2
	}
	var before []byte // the key before; each comes after it
	for i := 1; i < len(b); i++ {
		if closing == '}' {
			n := 0
			if b[i] == '"' {
				n = plainString(b[i:])
			}
			if n == 0 || i+n == len(b) || b[i+n] != ':' {
				return 0
			}
			key := b[i+1 : i+n-1]
			if bytes.Compare(before, key) >= 0 {
				return 0
			}
			before, i = key, i+n+1
		}
		n := plainValue(b[i:], depth-1)
		if i += n; n == 0 || i == len(b) {
			return 0
		}
		switch b[i] {
		case closing:
			return i + 1
		case ',':
		default:
			return 0
		}
	}
	return 0
}
