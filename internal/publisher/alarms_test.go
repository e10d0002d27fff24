package publisher_test

import (
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/internal/publisher"
	"github.com/lockstep-dev/lockstep/internal/webhook"
)

// A receiver takes alarms, once it has failed so many times.
type receiver struct {
	mu       sync.Mutex
	failures int
	taken    []string // type and environment, in order
	ids      []string
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, request *http.Request) {
	body, err := io.ReadAll(request.Body)
	var event struct {
		ID, Type string
		Data     struct{ Environment, Steward string }
	}
	stamp, _, _ := strings.Cut(strings.TrimPrefix(request.Header.Get(webhook.SignatureHeader), "t="), ",")
	seconds, badStamp := time.Parse("2006-01-02", "1970-01-01")
	if unix, err := time.ParseDuration(stamp + "s"); err == nil {
		seconds = seconds.Add(unix)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	switch err = errors.Join(err, badStamp, json.Unmarshal(body, &event)); {
	case err != nil || webhook.Sign([]byte("s3cret"), body, seconds) != request.Header.Get(webhook.SignatureHeader):
		w.WriteHeader(http.StatusForbidden)
	case r.failures > 0:
		r.failures--
		w.WriteHeader(http.StatusServiceUnavailable)
	default:
		r.taken, r.ids = append(r.taken, event.Type+" "+event.Data.Environment), append(r.ids, event.ID)
	}
}

func (r *receiver) took() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.taken)
}

// set lets it fail so many times from now on.
func (r *receiver) set(failures int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failures = failures
}

// telling configures a receiver with a secret in a file; silence is told at once, and a start that takes its time is not.
func telling(t *testing.T, r *receiver) func(*publisher.Options) {
	t.Helper()
	server := httptest.NewServer(r)
	t.Cleanup(server.Close)
	secret := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(secret, []byte("s3cret\n"), 0o600))
	address := filepath.Join(t.TempDir(), "address")
	must(t, os.WriteFile(address, []byte(server.URL+"\n"), 0o600))
	config, err := notify.ParseConfig("notify.yaml", []byte("targets: [{name: oncall, urlFile: "+address+", secretFile: "+secret+"}]\nrules: {silent: {after: 0s}, ledger: {off: true}}"))
	must(t, err)
	return func(o *publisher.Options) { o.Notify = config }
}

func TestAnAlarmIsSentOnceSignedAndNotAgainAfterARestart(t *testing.T) {
	t.Parallel()
	r, data := &receiver{failures: 2}, t.TempDir()
	told := telling(t, r)
	p := start(t, data, told)
	do(t, p, "op", ledger.AddEnvironment{Name: "dev", Approvals: 1, Steward: "team-a"})
	const first = notify.TypeRaised + " dev"
	bustest.Eventually(t, "the alarm is taken, the third time", func() bool { return slices.Equal(r.took(), []string{first}) })
	var open []notify.ShownAlarm
	bustest.Eventually(t, "that it was taken is known", func() bool {
		view, err := p.Alarms()
		must(t, err)
		open = view.Open
		return len(view.Waiting) == 0
	})
	if len(open) != 1 || open[0].ID != r.ids[0] || !slices.Equal(open[0].Stewards, []string{"team-a"}) {
		t.Fatalf("%+v, sent %v", open, r.ids)
	}
	do(t, p, "dora", ledger.AcknowledgeAlarm{Alarm: open[0].ID, Environment: "dev", Reason: "on it"})
	stop(t, p)

	p = start(t, data, told)
	eventuallyWritable(t, p)
	bustest.Eventually(t, "after a restart it is the same, and who takes care of it", func() bool {
		view, err := p.Alarms()
		must(t, err)
		return len(view.Open) == 1 && view.Open[0].ID == open[0].ID && view.Open[0].Acknowledged != nil && view.Open[0].Acknowledged.By == "dora"
	})
	do(t, p, "dora", ledger.SilenceAlarms{Environment: "quiet", Until: time.Now().Add(time.Hour), Reason: "being built"})
	addEnvironments(t, p, "quiet", "loud")
	bustest.Eventually(t, "what is new is sent, and nothing else", func() bool { return slices.Equal(r.took(), []string{first, notify.TypeRaised + " loud"}) })
}

// TestAnAlarmKeepsItsIDWhenAnotherPublisherTakesOver: what was told is not told again, and what was not is told under the id that it has.
func TestAnAlarmKeepsItsIDWhenAnotherPublisherTakesOver(t *testing.T) {
	t.Parallel()
	r, process, data, other := &receiver{}, bustest.StartProcess(t), t.TempDir(), t.TempDir()
	told := telling(t, r)
	p := start(t, data, on(process), told)
	addEnvironments(t, p, "dev")
	const first, second, third = notify.TypeRaised + " dev", notify.TypeRaised + " prod", notify.TypeRaised + " test"
	bustest.Eventually(t, "the first alarm is taken", func() bool { return slices.Equal(r.took(), []string{first}) })
	r.set(1 << 20)
	addEnvironments(t, p, "prod")
	ids := map[string]string{}
	bustest.Eventually(t, "the second is not", func() bool {
		view, err := p.Alarms()
		must(t, err)
		for _, a := range view.Open {
			ids[a.Environment] = a.ID
		}
		return len(view.Open) == 2 && len(view.Waiting) == 1 && view.Waiting[0].Attempts > 0
	})

	key, err := os.ReadFile(filepath.Join(data, "publisher.key"))
	must(t, err)
	must(t, os.WriteFile(filepath.Join(other, "publisher.key"), key, 0o600))
	q := start(t, other, on(process), told)
	eventuallyWritable(t, q)
	do(t, q, "dora", ledger.AcknowledgeAlarm{Alarm: ids["dev"], Environment: "dev", Reason: "on it"})
	for _, each := range []*publisher.Publisher{p, q} {
		bustest.Eventually(t, "who stands by knows the same", func() bool {
			view, err := each.Alarms()
			must(t, err)
			taken := slices.ContainsFunc(view.Open, func(a notify.ShownAlarm) bool {
				return a.ID == ids["dev"] && a.Acknowledged != nil && a.Acknowledged.By == "dora"
			})
			return taken && len(view.Open) == 2 && len(view.Waiting) == 1
		})
	}
	stop(t, p)
	r.set(0)
	bustest.Eventually(t, "the other one tells what was not taken", func() bool { return slices.Equal(r.took(), []string{first, second}) })
	addEnvironments(t, q, "test")
	bustest.Eventually(t, "and what is new, and nothing twice", func() bool { return slices.Equal(r.took(), []string{first, second, third}) })
	if want := []string{ids["dev"], ids["prod"]}; !slices.Equal(r.ids[:2], want) {
		t.Errorf("told under %v, want %v", r.ids, want)
	}
}

func TestWhatAReceiverRefusesIsADeadLetter(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	told := telling(t, r)
	p := start(t, t.TempDir(), told, func(o *publisher.Options) {
		o.Notify.Targets[0].SecretFile = "" // unsigned, it is forbidden
	})
	addEnvironments(t, p, "dev")
	bustest.Eventually(t, "it is given up", func() bool {
		view, err := p.Alarms()
		must(t, err)
		return len(view.Dead) == 1 && len(view.Waiting) == 0 && strings.Contains(view.Dead[0].Error, "403 Forbidden")
	})
}

func TestAPublisherDoesNotStartWithWhatItCannotTellBy(t *testing.T) {
	t.Parallel()
	data := t.TempDir()
	told := telling(t, &receiver{})
	o := options(data, told)
	must(t, os.WriteFile(filepath.Join(data, "alarms.json"), []byte("{"), 0o600))
	if _, err := publisher.New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "alarms.json") {
		t.Errorf("a damaged file: %v", err)
	}
	o = options(t.TempDir(), told)
	o.Notify.Targets[0].SecretFile = "/nowhere"
	if _, err := publisher.New(t.Context(), o); err == nil || !strings.Contains(err.Error(), "target oncall: secretFile") {
		t.Errorf("no secret: %v", err)
	}
}
