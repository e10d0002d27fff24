package exchange

import (
	"bytes"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/joho/godotenv"

	"github.com/lockstep-dev/lockstep/internal/config"
)

// A comment says, before a statement, whose value it holds, where the name and the text do not say it alone:
//
//	# lockstep: variable/log-level as JSON
//	LOG_LEVEL=3
var annotation = regexp.MustCompile(`^# lockstep: (variable/\S+)( as JSON)?$`)

var (
	dotenvName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	plainText  = regexp.MustCompile(`^[A-Za-z0-9_./:@%+,-]*$`)
	notInSnake = regexp.MustCompile(`[^A-Za-z0-9]+`)
)

// upperSnake is a name as environments of processes have names: as an agent's files have it with key: upper-snake.
func upperSnake(name string) string {
	if !dotenvName.MatchString(name) {
		name = notInSnake.ReplaceAllString(name, "_")
	}
	name = strings.ToUpper(name)
	if name[0] >= '0' && name[0] <= '9' {
		return "_" + name
	}
	return name
}

// writeDotenv writes variables as a dotenv file. Whatever reads it reads the same texts: nothing in it is expanded.
func writeDotenv(values Values) ([]byte, error) {
	var b bytes.Buffer
	written := map[string]string{}
	for _, key := range slices.Sorted(maps.Keys(values)) {
		name := upperSnake(strings.TrimPrefix(key, "variable/"))
		text, isJSON := flat(values[key])
		said := ""
		if "variable/"+name != key {
			said = "# lockstep: " + key
		}
		if isJSON {
			said = "# lockstep: " + key + " as JSON"
		}
		if other, twice := written[name]; twice {
			return nil, fmt.Errorf("%s and %s would both be %s in a dotenv file: export them as json", other, key, name)
		}
		written[name] = key
		quoted, ok := quoteDotenv(text)
		if !ok {
			return nil, fmt.Errorf("%s has a value that not every reader of dotenv files reads alike: export it as json", key)
		}
		if said != "" {
			b.WriteString(said + "\n")
		}
		b.WriteString(name + "=" + quoted + "\n")
	}
	return b.Bytes(), nil
}

// quoteDotenv writes a text so that this package and godotenv read it back: bare, in single quotes, or in double quotes.
func quoteDotenv(text string) (string, bool) {
	var forms []string
	if plainText.MatchString(text) {
		forms = append(forms, text)
	}
	if !strings.ContainsAny(text, "'\\\r") {
		forms = append(forms, "'"+text+"'")
	}
	forms = append(forms, `"`+strings.NewReplacer(`\`, `\\`, `"`, `\"`, `$`, `\$`, "\n", `\n`, "\r", `\r`).Replace(text)+`"`)
	for _, form := range forms {
		theirs, err := godotenv.Unmarshal("K=" + form + "\n")
		if err != nil || theirs["K"] != text || len(theirs) != 1 {
			continue
		}
		if ours, _, err := readDotenv("", "K="+form+"\n"); err == nil {
			if value, err := unflat(text, false); err == nil && string(ours["variable/K"]) == string(value) {
				return form, true
			}
		}
	}
	return "", false
}

// A dotenvReader reads statements one after the other; a reference is to one before it.
type dotenvReader struct {
	name   string
	text   string
	at     int // offset of what is read next
	start  int // of the statement, for errors
	texts  map[string]string
	lines  map[string]int
	values Values

	refers bool     // the value that is read refers to others
	notes  []string // names of such
}

// readDotenv reads a dotenv file. References to variables before them are resolved: a value in the ledger stands for itself.
func readDotenv(name, text string) (Values, []string, error) {
	r := &dotenvReader{name: name, text: strings.ReplaceAll(strings.TrimPrefix(text, "\ufeff"), "\r\n", "\n"), texts: map[string]string{}, lines: map[string]int{}, values: Values{}}
	said := ""
	for r.at < len(r.text) {
		r.start = r.at
		line, _, _ := strings.Cut(r.text[r.at:], "\n")
		switch trimmed := strings.TrimSpace(line); {
		case trimmed == "":
			r.at += len(line) + 1
		case trimmed[0] == '#':
			said = trimmed
			r.at += len(line) + 1
		default:
			if err := r.statement(annotation.FindStringSubmatch(said)); err != nil {
				return nil, nil, err
			}
			said = ""
		}
	}
	var notes []string
	if n := len(r.notes); n > 0 {
		notes = append(notes, fmt.Sprintf("references to other variables are resolved, as a process would see it: %d, in %s", n, strings.Join(r.notes, ", ")))
	}
	return r.values, notes, nil
}

// fail is an error at an offset of the file.
func (r *dotenvReader) fail(offset int, format string, args ...any) error {
	before := r.text[:min(offset, len(r.text))]
	return &config.Error{File: r.name, Line: strings.Count(before, "\n") + 1, Column: len(before) - strings.LastIndexByte(before, '\n'), Message: fmt.Errorf(format, args...).Error()}
}

// statement reads NAME=value, with export before it or not; said is what a comment before it says.
func (r *dotenvReader) statement(said []string) error {
	line, _, _ := strings.Cut(r.text[r.at:], "\n")
	head, _, found := strings.Cut(line, "=")
	name := strings.TrimSpace(head)
	if rest, ok := strings.CutPrefix(name, "export"); ok && strings.TrimLeft(rest, " \t") != rest {
		name = strings.TrimSpace(rest)
	}
	if !found || name == "" || strings.ContainsAny(name, " \t'\"") {
		return r.fail(r.start, "a line of a dotenv file is NAME=value, a comment after #, or empty")
	}
	r.at += len(head) + 1
	for r.at < len(r.text) && (r.text[r.at] == ' ' || r.text[r.at] == '\t') {
		r.at++
	}
	if before, twice := r.lines[name]; twice {
		return r.fail(r.start, "%s stands here and in line %d: keep one of them", name, before)
	}
	r.lines[name] = strings.Count(r.text[:r.start], "\n") + 1
	r.refers = false
	text, err := r.value()
	if err != nil {
		return err
	}
	if r.refers {
		r.notes = append(r.notes, name)
	}
	r.texts[name] = text
	key := "variable/" + name
	if said != nil {
		key = said[1]
	}
	value, err := unflat(text, said != nil && said[2] != "")
	if err == nil {
		err = r.values.put(key, value)
	}
	if err != nil {
		return r.fail(r.start, "%w", err)
	}
	return nil
}

// value reads a value with what follows it on its line.
func (r *dotenvReader) value() (string, error) {
	if r.at == len(r.text) {
		return "", nil
	}
	quote := r.text[r.at]
	if quote != '\'' && quote != '"' {
		line, _, _ := strings.Cut(r.text[r.at:], "\n")
		begin := r.at
		r.at += len(line) + 1
		for i := range len(line) {
			if before := r.text[begin+i-1]; line[i] == '#' && (before == ' ' || before == '\t') {
				line = line[:i]
				break
			}
		}
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "`") {
			return "", r.fail(begin, "a value in backquotes is read differently by readers: use single quotes")
		}
		return r.expand(line, begin, false)
	}
	begin := r.at + 1
	end := begin
	for ; end < len(r.text) && r.text[end] != quote; end++ {
		if quote == '"' && r.text[end] == '\\' {
			end++
		}
	}
	if end >= len(r.text) {
		return "", r.fail(begin-1, "a quote begins here and has no end")
	}
	rest, _, _ := strings.Cut(r.text[end+1:], "\n")
	if after := strings.TrimSpace(rest); after != "" && after[0] != '#' {
		return "", r.fail(end+1, "after the quote only a comment may follow")
	}
	r.at = end + 1 + len(rest) + 1
	if quote == '\'' {
		return r.text[begin:end], nil
	}
	return r.expand(r.text[begin:end], begin, true)
}

var reference = regexp.MustCompile(`^\$(?:\{([A-Za-z_][A-Za-z0-9_]*)(?:(:?-)([^}]*))?\}|([A-Za-z_][A-Za-z0-9_]*))`)

var escapes = map[byte]string{'n': "\n", 'r': "\r", 't': "\t"}

// expand resolves references, and the escapes of double quotes.
func (r *dotenvReader) expand(text string, offset int, quoted bool) (string, error) {
	var b strings.Builder
	for i := 0; i < len(text); i++ {
		switch c := text[i]; {
		case c == '\\' && i+1 < len(text) && (quoted || text[i+1] == '$'):
			i++
			if replaced, known := escapes[text[i]]; known && quoted {
				b.WriteString(replaced)
			} else {
				b.WriteByte(text[i])
			}
		case c == '$' && i+1 < len(text) && text[i+1] == '(':
			return "", r.fail(offset+i, "$(…) runs a command, which nobody does here: write what it comes to")
		case c == '$':
			m := reference.FindStringSubmatch(text[i:])
			if m == nil && i+1 < len(text) && text[i+1] == '{' {
				return "", r.fail(offset+i, "this reference is not understood: ${NAME} and ${NAME:-otherwise} are; write what it comes to, or the value in single quotes")
			}
			if m == nil {
				b.WriteByte(c)
				continue
			}
			name := m[1] + m[4]
			value, known := r.texts[name]
			if m[2] != "" && (!known || m[2] == ":-" && value == "") {
				value, known = m[3], true
			}
			if !known {
				return "", r.fail(offset+i, "%s is not set before this line: set it, write what it comes to, or write the value in single quotes if a text is meant", name)
			}
			r.refers = true
			b.WriteString(value)
			i += len(m[0]) - 1
		default:
			b.WriteByte(c)
		}
	}
	return b.String(), nil
}
