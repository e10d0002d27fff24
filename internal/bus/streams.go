package bus

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

const (
	ledgerIDKey      = "lockstep.ledger" // metadata of LEDGER
	ackRetention     = 14 * 24 * time.Hour
	releaseConsumers = 100_000 // agents catching up at once; the server's default is 1,000
	defaultLeaseTTL  = 5 * time.Second
)

// StreamOptions of EnsureStreams.
type StreamOptions struct {
	LedgerID string        // the ledger that must be there; empty: whichever is there, and a new one if there is none
	Replicas int           // 0: 1; 3 on a cluster
	LeaseTTL time.Duration // how long a dead publisher holds the lease; 0: 5 s; at least 100 ms
}

// A SettingError says that a stream is there but set differently: nobody may have changed it under us.
type SettingError struct{ Stream, Setting, Want, Have string }

func (e *SettingError) Error() string {
	return fmt.Sprintf("stream %s: %s is %s, want %s: somebody changed it; set it back, or move the stream away and restart", e.Stream, e.Setting, e.Have, e.Want)
}

// EnsureStreams makes the streams that are missing, checks the settings of those that are there (a *SettingError names the first
// that differs), and returns the ledger's id. A ledger that had begun, whose id is given, is never made anew here: without a LEDGER the
// error is ErrLedgerChanged, once the other streams are there. A server that still deletes a stream lets another one with its name be
// made over the same files, which shows the old messages and then loses them.
func (c *Conn) EnsureStreams(ctx context.Context, o StreamOptions) (ledgerID string, err error) {
	var lost error
	for _, want := range streams(o) {
		ensure := c.ensureStream
		if want.Name == events.StreamLedger && o.LedgerID != "" {
			ensure = c.knownLedger
		}
		info, err := ensure(ctx, want)
		switch {
		case errors.Is(err, ErrLedgerChanged):
			lost = err
		case err != nil:
			return "", err
		case want.Name == events.StreamLedger:
			ledgerID = info.Config.Metadata[ledgerIDKey]
		}
	}
	if lost == nil && o.LedgerID != "" && ledgerID != o.LedgerID {
		return "", &SettingError{events.StreamLedger, "ledger id", o.LedgerID, ledgerID}
	}
	return ledgerID, errors.Join(lost, c.ensureLease(ctx, o))
}

func streams(o StreamOptions) []jetstream.StreamConfig {
	base := jetstream.StreamConfig{
		Storage: jetstream.FileStorage, Replicas: max(o.Replicas, 1),
		MaxConsumers: -1, MaxMsgs: -1, MaxBytes: -1, MaxMsgsPerSubject: -1, MaxMsgSize: -1,
	}
	derived := base // can be sent again, so it need not be fsynced; a cluster refuses that
	if base.Replicas == 1 {
		derived.PersistMode = jetstream.AsyncPersistMode
	}

	ledger := base
	ledger.Name, ledger.Subjects = events.StreamLedger, []string{events.SubjectLedger}
	ledger.DenyDelete, ledger.DenyPurge = true, true
	ledger.Metadata = map[string]string{ledgerIDKey: o.LedgerID}
	if o.LedgerID == "" {
		ledger.Metadata[ledgerIDKey] = uuid.NewString()
	}

	releases := derived
	releases.Name, releases.Subjects = events.StreamReleases, []string{events.SubjectReleases}
	releases.AllowDirect, releases.Discard, releases.MaxConsumers = true, jetstream.DiscardNew, releaseConsumers
	releases.RePublish = &jetstream.RePublish{Source: events.SubjectReleases, Destination: events.LivePattern()}

	acks := derived
	acks.Name, acks.Subjects = events.StreamAcks, []string{events.SubjectAcks, events.SubjectDrifts}
	acks.MaxAge = ackRetention

	beats := derived
	beats.Name, beats.Subjects = events.StreamBeats, []string{events.SubjectBeats}
	beats.MaxMsgsPerSubject = 1

	return []jetstream.StreamConfig{ledger, releases, acks, beats}
}

func (c *Conn) ensureStream(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	info, err := c.streamInfo(ctx, want.Name)
	if errors.Is(err, jetstream.ErrStreamNotFound) {
		bounded, cancel := c.bounded(ctx)
		defer cancel()
		s, err := c.js.CreateStream(bounded, want)
		switch {
		case errors.Is(err, jetstream.ErrStreamNameAlreadyInUse): // another publisher was faster, with another ledger id
			info, err = c.streamInfo(ctx, want.Name)
		case err == nil:
			info = s.CachedInfo()
		}
		if err != nil {
			return nil, failed(ctx, "make stream "+want.Name, err)
		}
	} else if err != nil {
		return nil, err
	}
	if info.State.LastSeq > 0 && info.State.LastTime.Before(info.Created) {
		return nil, c.overDeletedFiles(ctx, want.Name)
	}
	return info, checkStream(want, info)
}

// overDeletedFiles deals with a stream that holds messages from before it was made: the server was still deleting one of the same name,
// whose files it took for its own and loses now. What is derived is deleted to be made again; a ledger is left to its repair.
func (c *Conn) overDeletedFiles(ctx context.Context, name string) error {
	if name == events.StreamLedger {
		return fmt.Errorf("%w: %s was made while the server deleted another one: repair the ledger", ErrLedgerChanged, name)
	}
	bounded, cancel := c.bounded(ctx)
	defer cancel()
	if err := c.js.DeleteStream(bounded, name); err != nil && !errors.Is(err, jetstream.ErrStreamNotFound) {
		return failed(ctx, "delete "+name, err)
	}
	return fmt.Errorf("make stream %s: %w: the server is still deleting the one before", name, ErrUnavailable)
}

// knownLedger is LEDGER as it is; it is never made here.
func (c *Conn) knownLedger(ctx context.Context, want jetstream.StreamConfig) (*jetstream.StreamInfo, error) {
	info, err := c.streamInfo(ctx, want.Name)
	if err != nil {
		return nil, ledgerMissing(err)
	}
	return info, checkStream(want, info)
}

func checkStream(want jetstream.StreamConfig, info *jetstream.StreamInfo) error {
	if want.Name == events.StreamLedger && info.Config.Metadata[ledgerIDKey] == "" {
		return &SettingError{want.Name, "ledger id", "a UUID in the metadata", "none"}
	}
	return compareSettings(want, info.Config)
}

// notCompared are settings that mean nothing for what the streams promise, or that the server fills in.
var notCompared = []string{"description", "metadata", "duplicate_window", "placement"}

// compareSettings compares every other setting under the name that the server and its tools give it, so that one which is
// unknown here cannot be changed unnoticed either.
func compareSettings(want, have jetstream.StreamConfig) error {
	w, err := settings(want)
	if err != nil {
		return err
	}
	h, err := settings(have)
	if err != nil {
		return err
	}
	for name, value := range h {
		if _, set := w[name]; !set && (value == "0" || value == "false" || value == `""` || value == "{}" || value == "null") {
			delete(h, name)
		}
	}
	names := slices.Concat(slices.Collect(maps.Keys(w)), slices.Collect(maps.Keys(h)))
	slices.Sort(names)
	for _, name := range names {
		if w[name] != h[name] && !slices.Contains(notCompared, name) {
			return &SettingError{want.Name, name, cmp.Or(w[name], "not set"), cmp.Or(h[name], "not set")}
		}
	}
	return nil
}

func settings(cfg jetstream.StreamConfig) (map[string]string, error) {
	b, err := json.Marshal(cfg)
	if err != nil {
		return nil, fmt.Errorf("settings of stream %s: %w", cfg.Name, err)
	}
	var raw map[string]json.RawMessage
	if err := json.Unmarshal(b, &raw); err != nil {
		return nil, fmt.Errorf("settings of stream %s: %w", cfg.Name, err)
	}
	out := make(map[string]string, len(raw))
	for name, value := range raw {
		out[name] = string(value)
	}
	return out, nil
}

// A Notice says that a stream may not be what it was: check settings and contents.
type Notice struct {
	Stream string // empty where the connection came back, after which anything may have happened to any stream
	Action string // what the server calls it: created, deleted, updated, restore_complete, …; or reconnected
}

var watched = []string{events.StreamLedger, events.StreamReleases, events.StreamAcks, events.StreamBeats}

// Watch tells fn of what happens to Lockstep's streams until stop is called. Fn must not block.
func (c *Conn) Watch(fn func(Notice)) (stop func(), err error) {
	const prefix = "$JS.EVENT.ADVISORY.STREAM."
	sub, err := c.nc.Subscribe(prefix+"*.*", func(m *nats.Msg) {
		action, stream, _ := strings.Cut(strings.TrimPrefix(m.Subject, prefix), ".")
		if !slices.Contains(watched, stream) {
			return
		}
		fn(Notice{Stream: stream, Action: strings.ToLower(action)})
	})
	if err != nil {
		return nil, fmt.Errorf("watch the streams: %w: %w", ErrUnavailable, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			link, err := c.connected(ctx)
			if err != nil {
				return
			}
			select {
			case <-link.down.Done():
			case <-ctx.Done():
				return
			}
			if _, err := c.connected(ctx); err == nil {
				fn(Notice{Action: "reconnected"})
			}
		}
	}()
	return func() {
		_ = sub.Unsubscribe() // fails only where the connection is closed
		cancel()
		<-done
	}, nil
}
