package main

import (
	"fmt"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"golang.org/x/term"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// show writes data as JSON or YAML where that is asked for, and otherwise lets people write it for people.
func (c *cli) show(data any, people func()) error {
	return c.format.Show(c.stdout, data, people)
}

// line writes a line of data.
func (c *cli) line(format string, args ...any) { fmt.Fprintf(c.stdout, format+"\n", args...) }

// newTable is a table without boxes; on a terminal it is as wide as the terminal.
func (c *cli) newTable(header ...any) table.Writer {
	t := table.NewWriter()
	style := table.Style{Name: "plain", Box: table.BoxStyle{PaddingRight: "  ", UnfinishedRow: "…"}, Options: table.OptionsNoBordersAndSeparators}
	if isTerminal(c.stdout) {
		style.Size.WidthMax = width(c.stdout)
	}
	t.SetStyle(style)
	t.SuppressTrailingSpaces()
	t.AppendHeader(header)
	return t
}

// width is how many columns a terminal has.
func width(stream any) int {
	columns, _ := size(stream)
	return columns
}

// size is how many columns and lines a terminal has.
func size(stream any) (columns, lines int) {
	if f, ok := file(stream); ok {
		if columns, lines, err := term.GetSize(int(f.Fd())); err == nil && columns > 0 && lines > 0 {
			return columns, lines
		}
	}
	return 80, 24
}

func (c *cli) print(t table.Writer) { c.line("%s", t.Render()) }

// stateTable is a table of names whose states must be read, however narrow the terminal is.
func (c *cli) stateTable(header table.Row, rows []table.Row) string {
	t := c.newTable(header...)
	t.AppendRows(rows)
	if isTerminal(c.stdout) {
		t.SetColumnConfigs(narrowed(header, rows, width(c.stdout)))
	}
	return t.Render()
}

// spared are columns that can be asked for, those that are missed least first.
var spared = []any{"CONNECTORS", "VERSION", "DIGEST", "AGENTS", "LAST CHANGE", "HEARD", "LAG"}

// roomToSayWhy is how many columns of a terminal a reason has before what can be asked for.
const roomToSayWhy = 30

// narrowed leaves out columns that can be asked for until there is room to say why, then those between the name and the state, the last
// one first, and then shortens names, until a state ends within so many columns. What stands behind it is cut off.
func narrowed(header table.Row, rows []table.Row, room int) (out []table.ColumnConfig) {
	state := slices.Index(header, any("STATE"))
	widths, all, needed := make([]int, len(header)), 0, 0
	for i := range widths {
		for _, row := range append([]table.Row{header}, rows...) {
			widths[i] = max(widths[i], text.StringWidthWithoutEscSequences(fmt.Sprint(row[i]))+2) // the padding
		}
		if header[i] == "WHY" {
			widths[i] = min(widths[i], roomToSayWhy)
		}
		all += widths[i]
		if i <= state {
			needed += widths[i]
		}
	}
	hide := func(i int) {
		out = append(out, table.ColumnConfig{Number: i + 1, Hidden: true})
		all -= widths[i]
		if i < state {
			needed -= widths[i]
		}
		widths[i] = 0
	}
	for _, name := range spared {
		if i := slices.Index(header, name); i >= 0 && all > room {
			hide(i)
		}
	}
	for i := state - 1; i > 0 && needed > room; i-- {
		if widths[i] > 0 {
			hide(i)
		}
	}
	if needed > room {
		shorten := func(name string, most int) string { return text.Snip(name, most, "…") }
		out = append(out, table.ColumnConfig{Number: 1, WidthMax: max(widths[0]-2-(needed-room), 1), WidthMaxEnforcer: shorten})
	}
	return out
}

// plain is text without what a terminal would obey.
func plain(s string) string {
	var b strings.Builder
	for _, r := range s {
		if unicode.IsPrint(r) || r == '\n' || r == '\t' {
			b.WriteRune(r)
		} else {
			b.WriteString(strings.Trim(strconv.QuoteRuneToASCII(r), "'"))
		}
	}
	return b.String()
}

// brief is the first line of a text.
func brief(s string) string {
	first, _, more := strings.Cut(strings.TrimSpace(s), "\n")
	if more {
		first += " …"
	}
	return plain(first)
}

// mostInCell is how many characters of a text stand in a cell of a table.
const mostInCell = 160

// cell is brief where there is little room: of a long text it is the beginning, and how much more there is.
func cell(s string) string {
	s = strings.TrimSpace(s)
	first := brief(s)
	runes := []rune(first)
	if len(runes) <= mostInCell+16 { // no shorter with words about so little
		return first
	}
	shown := string(runes[:mostInCell])
	return shown + "… " + bytesOf(max(len(s), len(strings.TrimSuffix(first, " …")))-len(shown)) + " more"
}

// bytesOf is a number of bytes for people.
func bytesOf(n int) string {
	if n >= 1<<10 {
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return plural(n, "byte", "bytes")
}

const (
	red    = "31"
	green  = "32"
	yellow = "33"
	faint  = "2"
	bold   = "1"
)

// paint colours a text on a terminal. A colour never says what the word does not.
func (c *cli) paint(colour, s string) string {
	if !isTerminal(c.stdout) || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return s
	}
	return "\x1b[" + colour + "m" + s + "\x1b[0m"
}

func (c *cli) condition(condition fleet.Condition) string {
	colour := yellow
	switch condition {
	case fleet.InStep:
		colour = green
	case fleet.Torn, fleet.Differing, fleet.Failing:
		colour = red
	case fleet.Retired:
		colour = faint
	}
	return c.paint(colour, string(condition))
}

// took is a lag for people.
func took(d *fleet.Duration) string { return d.String() }

// span is a length of time with as many digits as people read.
func span(seconds float64) string { return fleet.Span(seconds) }

// ago is how long ago something was.
func ago(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	passed := time.Since(t).Round(time.Second)
	if passed <= 0 {
		return "just now"
	}
	return span(passed.Seconds()) + " ago"
}

// moment is a time and how long ago it was.
func moment(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04:05Z") + " (" + ago(t) + ")"
}

func plural(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return strconv.Itoa(n) + " " + many
}

func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

var plainWord = regexp.MustCompile(`^[A-Za-z0-9@%_+=:,./-]+$`)

// shellWord is a word as a person may type it into a shell.
func shellWord(s string) string {
	if plainWord.MatchString(s) {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// hint is a command within a sentence, in quotes that those of its last word do not end.
func hint(command, word string) string {
	word = shellWord(plain(word))
	if strings.HasPrefix(word, "'") {
		return "`" + command + " " + word + "`"
	}
	return "'" + command + " " + word + "'"
}
