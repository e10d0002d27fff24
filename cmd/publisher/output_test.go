package main

import (
	"context"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"

	"github.com/lockstep-dev/lockstep/internal/console"
	"github.com/lockstep-dev/lockstep/internal/notify"
)

func TestASpanLosesNoDigitThatCounts(t *testing.T) {
	for given, want := range map[time.Duration]string{
		0: "0ms", time.Microsecond: "<1ms", time.Second: "1s", 1500 * time.Millisecond: "1.5s", 10 * time.Second: "10s", 30 * time.Second: "30s",
		time.Minute: "1m", 90 * time.Second: "1m30s", 10 * time.Minute: "10m", time.Hour: "1h", 70 * time.Minute: "1h10m",
		2*time.Hour + 10*time.Minute + 20*time.Second: "2h10m", 20 * time.Hour: "20h", 48 * time.Hour: "2d",
	} {
		if got := span(given.Seconds()); got != want {
			t.Errorf("%s is shown as %s, want %s", given, got, want)
		}
	}
}

// full is a disk without room.
type full struct{}

var errFull = errors.New("no space left")

func (full) Write([]byte) (int, error) { return 0, errFull }

func TestAnswersThatCannotBeWrittenAreNoSuccess(t *testing.T) {
	var stderr strings.Builder
	if code := run(t.Context(), []string{"version"}, strings.NewReader(""), full{}, &stderr); code != console.ExitFailure || !strings.Contains(stderr.String(), "no space left") {
		t.Errorf("exit code %d, %s", code, stderr.String())
	}
}

func TestAQuestionEndsWithAnInterruption(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	nobody, closing := io.Pipe()
	t.Cleanup(func() { closing.Close() })
	cancel()
	if _, err := readLine(ctx, nobody); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	for said, want := range map[string]string{"y\nmore": "y\n", "": "", "y": "y"} {
		if got, err := readLine(t.Context(), strings.NewReader(said)); got != want || err != nil {
			t.Errorf("%q: %q, %v", said, got, err)
		}
	}
}

func TestAStateIsReadOnTheNarrowestTerminal(t *testing.T) {
	header := table.Row{"ENVIRONMENT", "REVISION", "HEAD", "LAG", "STATE", "LAST CHANGE", "WHY"}
	rows := []table.Row{
		{"production-europe-1", 12, 13, "1 rev, 2h10m", "\x1b[31mdiffering\x1b[0m", "c7", "variable/x was edited by hand"},
		{"dev", 1, 1, "-", "in step", "c7", ""},
	}
	for room, want := range map[int]string{
		120: "production-europe-1 12 13 1 rev, 2h10m differing c7 variable/x was edited by hand",
		80:  "production-europe-1 12 13 differing variable/x was edited by",
		60:  "production-europe-1 12 13 differing variable/",
		40:  "production-europe-1 differing",
		24:  "production… differing …",
	} {
		w := (&cli{}).newTable(header...)
		w.Style().Size.WidthMax = room
		w.AppendRows(rows)
		w.SetColumnConfigs(narrowed(header, rows, room))
		line := strings.Split(w.Render(), "\n")[1]
		got := strings.Join(strings.Fields(strings.NewReplacer("\x1b[31m", "", "\x1b[0m", "").Replace(line)), " ")
		if !strings.HasPrefix(got, want) {
			t.Errorf("in %d columns: %s, want %s", room, got, want)
		}
	}
}

func TestAnAlarmThatIsWellIsNotShownAsPlainlyOpen(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	a := notify.Alarm{Raised: now.Add(-5 * time.Minute)}
	if got := openFor(a, now); got != "5m" {
		t.Errorf("%q", got)
	}
	a.Well = now.Add(-20 * time.Second)
	if got := openFor(a, now); got != "5m, well for 20s" {
		t.Errorf("%q", got)
	}
}

func TestALongReasonIsCutInACell(t *testing.T) {
	for given, want := range map[string]string{
		"why":                            "why",
		"why\nand more":                  "why …",
		strings.Repeat("a", 170):         strings.Repeat("a", 170),
		strings.Repeat("a", 4000):        strings.Repeat("a", 160) + "… 3.8 KiB more",
		strings.Repeat("a", 200) + "\nb": strings.Repeat("a", 160) + "… 42 bytes more",
	} {
		if got := cell(given); got != want {
			t.Errorf("%.20q…: %s", given, got)
		}
	}
}
