package dashboard

import (
	"fmt"
	"html/template"
	"regexp"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/lockstep-dev/lockstep/internal/fleet"
)

// mostShown is how many characters of a text are shown; what is beyond is in the API.
const mostShown = 600

// text shows what somebody wrote: as text, with characters that a browser would obey, or nobody would see, named instead, and cut off
// where it is long.
func text(s string) template.HTML { return clipped(s, mostShown) }

// brief is text where there is little room.
func brief(s string) template.HTML { return clipped(s, 160) }

// typed is what stands between quotes; an apostrophe follows a letter.
var typed = regexp.MustCompile(`\B'([^']*)'`)

// commands is brief, with what stands between quotes shown as what is typed.
func commands(s string) template.HTML {
	var b strings.Builder
	at := 0
	for _, found := range typed.FindAllStringSubmatchIndex(s, -1) {
		b.WriteString(string(brief(s[at:found[0]])) + "<code>" + string(brief(s[found[2]:found[3]])) + "</code>")
		at = found[1]
	}
	b.WriteString(string(brief(s[at:])))
	return template.HTML(b.String()) // of escaped text
}

// leastHidden is how many bytes are worth the words that they are left out.
const leastHidden = 16

// cut is where a text is cut off of which so many characters are shown: its length where all of it is.
func cut(s string, most int) int {
	shown := 0
	for i := range s {
		if shown == most && len(s)-i >= leastHidden {
			return i
		}
		shown = min(shown+1, most)
	}
	return len(s)
}

func clipped(s string, most int) template.HTML {
	var b strings.Builder
	end := cut(s, most)
	for i, r := range s {
		if i == end {
			fmt.Fprintf(&b, `<span class="more">… %s more</span>`, size(len(s)-i))
			break
		}
		if name := odd(r); name != "" {
			b.WriteString(`<span class="odd">` + name + `</span>`)
			continue
		}
		switch r {
		case '<':
			b.WriteString("&lt;")
		case '>':
			b.WriteString("&gt;")
		case '&':
			b.WriteString("&amp;")
		case '"':
			b.WriteString("&#34;")
		case '\'':
			b.WriteString("&#39;")
		default:
			b.WriteRune(r)
		}
	}
	return template.HTML(b.String()) // every character was escaped above
}

// odd names a character that is not shown as itself; "" for all others.
func odd(r rune) string {
	switch {
	case r == '\n':
		return "⏎"
	case r == '\t':
		return "⇥"
	case r == utf8.RuneError || !unicode.IsPrint(r):
		return fmt.Sprintf("U+%04X", r)
	}
	return ""
}

// plain is text for attributes and titles, where no markup can be.
func plain(s string) string {
	var b strings.Builder
	shown := 0
	for _, r := range s {
		if shown++; shown > 200 {
			b.WriteString("…")
			break
		}
		if name := odd(r); name != "" {
			b.WriteString(name)
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

// size is a number of bytes for people.
func size(n int) string {
	switch {
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	case n >= 1<<10:
		return fmt.Sprintf("%.1f KiB", float64(n)/(1<<10))
	}
	return count(n, "byte", "bytes")
}

// ago is how long before the page's time something was, with the time itself on pointing at it.
func ago(asOf, t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	words := "just now"
	if passed := asOf.Sub(t).Round(time.Second); passed > 0 {
		words = fleet.Span(passed.Seconds()) + " ago"
	}
	return element(t, words)
}

// lasting is how long something has been so at the page's time, with the time itself on pointing at it.
func lasting(asOf, since time.Time) template.HTML {
	passed := asOf.Sub(since).Round(time.Second)
	if passed <= 0 {
		return element(since, "a moment")
	}
	return element(since, fleet.Span(passed.Seconds()))
}

// stamp is a time.
func stamp(t time.Time) template.HTML {
	if t.IsZero() {
		return "–"
	}
	return element(t, t.UTC().Format("2006-01-02 15:04:05Z"))
}

func element(t time.Time, words string) template.HTML {
	at := t.UTC().Format(time.RFC3339)
	return template.HTML(`<time datetime="` + at + `" title="` + t.UTC().Format("2006-01-02 15:04:05.000Z") + `">` + words + `</time>`) // of times and numbers
}
