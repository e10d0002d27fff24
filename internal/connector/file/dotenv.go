package file

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/joho/godotenv"
)

// A dotenvDocument is a list of statements with their places in the text. The grammar is godotenv's: what it reads is what the file
// says, and what we write is tried with it before.
type dotenvDocument struct {
	src        []byte
	statements []statement
	values     map[string]any
}

// A statement is KEY=value, or KEY: value, with export before it or not.
type statement struct {
	key        string
	start      int // of the statement
	value, end int // the value as written, with its quotes; a comment behind it is not in it
}

func parseDotenv(src []byte) (document, error) {
	statements, err := scanDotenv(src)
	if err != nil {
		return nil, err
	}
	d := &dotenvDocument{src, statements, map[string]any{}}
	for _, s := range statements { // of two with one key, the later counts
		d.values[s.key] = d.read(s)
	}
	read, err := godotenv.UnmarshalBytes(src)
	if err != nil || len(read) != len(d.values) {
		return nil, &syntaxError{message: "not a valid dotenv file"}
	}
	for key := range read {
		if _, same := d.values[key]; !same {
			return nil, &syntaxError{message: "not a valid dotenv file"}
		}
	}
	return d, nil
}

// expansion is a reference to a variable, in a value that is not in single quotes.
var expansion = regexp.MustCompile(`(?:^|[^\\])\$\(?\{?[A-Z0-9_]`)

// read is a statement's value. One that refers to variables depends on other statements: it is given as its text.
func (d *dotenvDocument) read(s statement) any {
	text := d.src[s.value:s.end]
	if !bytes.HasPrefix(text, []byte("'")) && expansion.Match(text) {
		return unheld(text)
	}
	rest := text
	if len(text) == 0 || text[0] != '\'' && text[0] != '"' { // a comment behind it decides where it ends
		rest = d.src[s.value:lineEnd(d.src, s.value)]
	}
	value, ok := readValue(string(rest))
	if !ok {
		return unheld(text)
	}
	return value
}

// readValue is what godotenv makes of a value and what follows it on its line.
func readValue(text string) (string, bool) {
	read, err := godotenv.Unmarshal("K=" + text)
	value, ok := read["K"]
	return value, ok && err == nil
}

func lineEnd(src []byte, from int) int {
	if i := bytes.IndexAny(src[from:], "\r\n"); i >= 0 {
		return from + i
	}
	return len(src)
}

// isBlank is godotenv's idea of a space within a line.
func isBlank(r rune) bool {
	switch r {
	case '\t', '\v', '\f', '\r', ' ', 0x85, 0xA0:
		return true
	}
	return false
}

// scanDotenv finds the statements, in godotenv's grammar.
func scanDotenv(src []byte) ([]statement, error) {
	var list []statement
	for i := 0; ; {
		rest := bytes.TrimLeftFunc(src[i:], unicode.IsSpace)
		i = len(src) - len(rest)
		if len(rest) == 0 {
			return list, nil
		}
		if rest[0] == '#' {
			eol := bytes.IndexByte(rest, '\n')
			if eol < 0 {
				return list, nil
			}
			i += eol
			continue
		}
		s, next, err := scanStatement(src, i)
		if err != nil {
			return nil, err
		}
		list = append(list, s)
		i = next
	}
}

// scanStatement reads the statement at start, and where to go on.
func scanStatement(src []byte, start int) (statement, int, error) {
	s := statement{start: start}
	key := start
	if rest, ok := bytes.CutPrefix(src[start:], []byte("export")); ok && bytes.IndexFunc(rest, isBlank) == 0 {
		key = len(src) - len(bytes.TrimLeftFunc(rest, isBlank))
	}
	delimiter := -1
	for i := key; i < len(src) && delimiter < 0; i++ {
		c := rune(src[i])
		switch {
		case c == '=' || c == ':':
			delimiter = i
		case isBlank(c), c == '_', c == '.', unicode.IsLetter(c), unicode.IsNumber(c):
		default:
			return s, 0, syntaxAt(src, i, "not a valid dotenv file: this cannot be in a variable's name")
		}
	}
	if delimiter < 0 {
		return s, 0, syntaxAt(src, start, "not a valid dotenv file: a line without =")
	}
	s.key = strings.TrimRightFunc(string(src[key:delimiter]), unicode.IsSpace)
	s.value = len(src) - len(bytes.TrimLeftFunc(src[delimiter+1:], isBlank))
	if bytes.HasSuffix(src[delimiter+1:s.value], []byte("\r")) && bytes.HasPrefix(src[s.value:], []byte("\n")) {
		s.value-- // the line end is not part of the statement
	}
	if s.value < len(src) && (src[s.value] == '\'' || src[s.value] == '"') {
		for i := s.value + 1; i < len(src); i++ {
			if src[i] == src[s.value] && src[i-1] != '\\' {
				s.end = i + 1
				return s, s.end, nil
			}
		}
		return s, 0, syntaxAt(src, s.value, "not a valid dotenv file: a quote without end")
	}
	eol := lineEnd(src, s.value)
	line := string(src[s.value:eol])
	for i, r := range []byte(line) { // the last # with a space before it begins the comment
		if r == '#' && i > 0 {
			if before, _ := utf8.DecodeLastRuneInString(line[:i]); isBlank(before) {
				s.end = i
			}
		}
	}
	if s.end > 0 {
		line = line[:s.end]
	}
	s.end = s.value + len(strings.TrimRightFunc(line, isBlank))
	return s, eol, nil
}

func (d *dotenvDocument) tree() map[string]any { return d.values }

func (d *dotenvDocument) edit(_ []string, changes edits) ([]byte, error) {
	last := map[string]int{}
	for i, s := range d.statements {
		last[s.key] = i
	}
	var out bytes.Buffer
	at := 0
	for i, s := range d.statements {
		v, set := changes.set[s.key]
		switch {
		case changes.del[s.key]:
			from, to := d.whole(s)
			out.Write(d.src[at:max(at, from)])
			at = max(at, to)
		case set && last[s.key] == i:
			text, ok := encodeDotenv(v, string(d.src[s.end:lineEnd(d.src, s.end)]))
			if !ok {
				return nil, fmt.Errorf("the value of %s cannot stand on its line: give it a line of its own", s.key)
			}
			out.Write(d.src[at:s.value])
			out.WriteString(text)
			at = s.end
		}
	}
	out.Write(d.src[at:])
	nl := newline(d.src)
	for _, key := range slices.Sorted(maps.Keys(changes.set)) {
		if _, there := last[key]; there {
			continue
		}
		text, ok := encodeDotenv(changes.set[key], "")
		if !ok {
			return nil, fmt.Errorf("the value of %s cannot be written", key)
		}
		if out.Len() > 0 && !bytes.HasSuffix(out.Bytes(), []byte("\n")) {
			out.WriteString(nl)
		}
		out.WriteString(key + "=" + text + nl)
	}
	return out.Bytes(), nil
}

// whole is what goes with a deleted statement: its lines, with the comment behind it, unless something else stands on them.
func (d *dotenvDocument) whole(s statement) (from, to int) {
	line := bytes.LastIndexByte(d.src[:s.start], '\n') + 1
	behind := len(d.src)
	if i := bytes.IndexByte(d.src[s.end:], '\n'); i >= 0 {
		behind = s.end + i + 1
	}
	rest := bytes.TrimSpace(d.src[s.end:behind])
	if len(bytes.TrimSpace(d.src[line:s.start])) > 0 || len(rest) > 0 && rest[0] != '#' {
		return s.start, s.end
	}
	return line, behind
}

var bare = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]*$`)

// encodeDotenv writes a text so that godotenv reads it back the same with rest behind it: bare, in single quotes (which every reader
// takes as they are), in double quotes, or bare with its $ escaped. False where none of them can hold it.
func encodeDotenv(v any, rest string) (string, bool) {
	value, ok := v.(string)
	if !ok {
		return "", false
	}
	escaped := strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`).Replace(value)
	candidates := []string{"'" + value + "'", `"` + escaped + `"`, strings.ReplaceAll(value, "$", `\$`)}
	if bare.MatchString(value) {
		candidates = slices.Insert(candidates, 0, value)
	}
	for _, text := range candidates {
		if read, ok := readValue(text + rest); ok && read == value && (text == "" || text[0] == '\'' || !expansion.MatchString(text)) {
			return text, true
		}
	}
	return "", false
}

// normalDotenv makes a text of every value: numbers and objects as JSON.
func normalDotenv(v any) (any, error) {
	var text string
	switch t := v.(type) {
	case nil:
		return nil, errors.New("a dotenv file has no null: leave the key out")
	case string:
		text = t
	default:
		text = string(canonical(v))
	}
	if strings.Contains(text, "\x00") {
		return nil, errors.New("a variable cannot hold a zero byte")
	}
	if _, ok := encodeDotenv(text, ""); !ok {
		return nil, errors.New("a dotenv file cannot hold this combination of quotes, line ends and backslashes")
	}
	return text, nil
}

var dotenvKey = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_.]*$`)

func checkDotenvKey(key string) error {
	if !dotenvKey.MatchString(key) {
		return fmt.Errorf("%q cannot be a variable's name: set key: upper-snake, or rename the resource", key)
	}
	return nil
}
