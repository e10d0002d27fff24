package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/lockstep-dev/lockstep/internal/api/client"
	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/fleet"
)

func topCommand(c *cli) *cobra.Command {
	return &cobra.Command{
		Use:   "top",
		Short: "Show where every environment stands, live on one screen, worst first",
		Long: `Show where every environment stands, live on one screen, worst first, as the dashboard's overview does: the revisions that are applied and
released, lag, agents that were heard, whether digests match, state, since when and why, and what to do. As many environments as fit are
shown. Press q or Ctrl-C to end it.

Where the output is no terminal it is shown once, with all environments. For data, and for a line about each environment that moves,
there is 'publisher status'.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if !c.format.People() {
				return console.Usage(cmd, "this screen is for people; ask 'publisher status -o %s' for data", c.format)
			}
			publisher, _, err := c.connect()
			if err != nil {
				return err
			}
			s := screen{cli: c, publisher: publisher}
			if err := s.look(cmd.Context()); err != nil {
				return err
			}
			if !isTerminal(c.stdout) || !isTerminal(c.stdin) || os.Getenv("TERM") == "dumb" {
				for _, line := range s.lines(0) {
					c.line("%s", line)
				}
				return nil
			}
			return s.run(cmd.Context())
		},
	}
}

// A screen shows the fleet until somebody ends it. While no publisher answers it shows what was known last, and says since when.
type screen struct {
	*cli
	publisher *client.Client
	view      fleet.View
	wrong     []string
	answered  bool
	lost      outage
}

// look asks the publisher again.
func (s *screen) look(ctx context.Context) error {
	view, wrong, err := overview(ctx, s.publisher, nil)
	if away := s.lost.observe(err); away && s.answered {
		return nil
	}
	if err != nil {
		return err
	}
	s.answered, s.view, s.wrong = true, view, wrong
	return nil
}

// lines are what the screen shows, at most so many where most is not 0: first what is wrong, then the worst environments.
func (s *screen) lines(most int) []string {
	out := []string{s.paint(bold, s.fit(totals(s.view)+"  as of "+s.view.AsOf.UTC().Format("2006-01-02 15:04:05Z")))}
	if !s.lost.since.IsZero() {
		out = append(out, s.paint(red, s.fit(s.lost.String()+"; what stands here is older, and nothing is known of now")))
	}
	for _, line := range s.wrong {
		out = append(out, s.paint(red, s.fit(line)))
	}
	if len(s.view.Environments) == 0 {
		return append(out, "there are no environments; add one with 'publisher env add NAME'")
	}
	shown := s.view.Environments
	if room := max(most-len(out)-2, 1); most > 0 && len(shown) > room { // below them the header and what is left out
		shown = shown[:room]
	}
	out = append(out, strings.Split(s.table(shown), "\n")...)
	if left := len(s.view.Environments) - len(shown); left > 0 {
		out = append(out, remainder(s.view.Environments[len(shown):]))
	}
	return out
}

// table is a line for each environment, with what the dashboard's overview says of it. Where the terminal is narrow, what can be asked for
// is left out before the state is, and before why it is so.
func (s *screen) table(environments []fleet.Environment) string {
	rows := make([]table.Row, len(environments))
	for i, e := range environments {
		lasting, next := "-", ""
		if outOfStep(e) {
			next = e.Next()
			if !e.Since.IsZero() {
				lasting = span(max(0, s.view.AsOf.Sub(e.Since).Round(time.Second).Seconds()))
			}
		}
		if next != "" {
			next = "→ " + next
		}
		rows[i] = table.Row{e.Name, fmt.Sprintf("%d / %d", e.Revision, e.Head), lag(e), fmt.Sprintf("%d of %d", e.Alive(s.view.AsOf), len(e.Agents)), e.Digests(), s.condition(e.Condition),
			lasting, dash(e.LastChange), strings.TrimSpace(joined(why(string(e.Reason), e.Message), e.Clocks()) + " " + next)}
	}
	return s.stateTable(table.Row{"ENVIRONMENT", "APPLIED / HEAD", "LAG", "AGENTS", "DIGEST", "STATE", "FOR", "LAST CHANGE", "WHY"}, rows)
}

// fit cuts a line at the end of the terminal's.
func (s *screen) fit(line string) string {
	if !isTerminal(s.stdout) {
		return line
	}
	columns, _ := size(s.stdout)
	return text.Snip(line, columns, "…")
}

// remainder says how many environments are not shown, and the worst state among them: they come worst first.
func remainder(environments []fleet.Environment) string {
	return fmt.Sprintf("… and %d more, the worst of them %s; see 'publisher status'", len(environments), environments[0].Condition)
}

const (
	enterScreen = "\x1b[?1049h\x1b[?25l" // another screen, no cursor
	leaveScreen = "\x1b[?25h\x1b[?1049l"
	home        = "\x1b[H"
	endOfLine   = "\x1b[K\r\n"
	endOfScreen = "\x1b[J"
)

// endKeys end the screen: q, and what Ctrl-C and Ctrl-D send to a terminal in raw mode.
var endKeys = []byte{'q', 'Q', 3, 4}

func (s *screen) run(ctx context.Context) error {
	keyboard, _ := file(s.stdin) // it is a terminal
	before, err := term.MakeRaw(int(keyboard.Fd()))
	if err != nil {
		return fmt.Errorf("take the terminal: %w", err)
	}
	defer func() { _ = term.Restore(int(keyboard.Fd()), before) }() // nothing more can be done
	fmt.Fprint(s.stdout, enterScreen)
	defer fmt.Fprint(s.stdout, leaveScreen)

	keys := make(chan byte)
	go func() { // nothing but the end of the program ends a read from a terminal
		for key := make([]byte, 1); ; {
			if _, err := keyboard.Read(key); err != nil {
				return
			}
			select {
			case keys <- key[0]:
			case <-ctx.Done():
				return
			}
		}
	}()
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		s.draw()
		select {
		case key := <-keys:
			if slices.Contains(endKeys, key) {
				return nil
			}
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.look(ctx); err != nil {
			return err
		}
	}
}

// draw writes over what is on the screen, without clearing it first: that would flicker.
func (s *screen) draw() {
	_, height := size(s.stdout)
	var b strings.Builder
	b.WriteString(home)
	lines := s.lines(height - 1)
	for _, line := range lines[:min(len(lines), height-1)] {
		b.WriteString(line + endOfLine)
	}
	b.WriteString(endOfScreen)
	fmt.Fprint(s.stdout, b.String())
}
