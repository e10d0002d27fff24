package bus_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats.go"
	"github.com/nats-io/nats.go/jetstream"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/internal/bus"
	"github.com/lockstep-dev/lockstep/internal/bus/bustest"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// A siege is a guarded bus with an environment "own", whose agent m is the attacker's, and one "other", which is to stay as it is.
type siege struct {
	*testing.T
	g         *bustest.Guarded
	publisher *bus.Conn
	refused   atomic.Int64 // consumers that were not made
	js        jetstream.JetStream
	m         bustest.Member
	nc        *nats.Conn     // the attacker's
	errs      chan error     // what the server says to it
	other     *bustest.Chain // the releases of the other environment
}

func newSiege(t *testing.T) *siege {
	s := &siege{T: t, g: bustest.StartGuarded(t), errs: make(chan error, 1000)}
	s.publisher = s.g.Publisher(func(string, error) { s.refused.Add(1) })
	s.js = admin(t, s.g.ClientURL(), nats.UserCredentials(s.g.Authority.Publisher()))
	s.other = bustest.NewChain(t, "other").Grow(3, "secret of the other")
	s.other.Send(s.publisher, 1, 3)
	bustest.NewChain(t, "own").Grow(2, "own").Send(s.publisher, 1, 2)
	s.m = s.g.Enrol("own", "a1")
	s.nc = s.connect(nats.UserJWTAndSeed(s.m.JWT, s.m.Seed), nats.CustomInboxPrefix("_INBOX_own_a1"))
	return s
}

func (s *siege) connect(opts ...nats.Option) *nats.Conn {
	s.Helper()
	nc, err := nats.Connect(s.g.ClientURL(), append(opts, nats.Timeout(bustest.Deadline), nats.ErrorHandler(func(_ *nats.Conn, _ *nats.Subscription, err error) { s.errs <- err }))...)
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(nc.Close)
	return nc
}

// flush waits until the server has read everything that the attacker sent.
func (s *siege) flush() {
	s.Helper()
	if err := s.nc.FlushWithContext(bustest.Context(s)); err != nil {
		s.Fatal(err)
	}
}

// denied waits for the server to say so.
func (s *siege) denied(what string) {
	s.Helper()
	s.flush()
	select {
	case err := <-s.errs:
		if !errors.Is(err, nats.ErrPermissionViolation) {
			s.Errorf("%s: %v", what, err)
		}
	case <-bustest.Context(s).Done():
		s.Errorf("%s: the server does not say that it is not allowed", what)
	}
}

// A holding is a stream as it is: what of it an attacker must not change.
type holding struct {
	Config    string
	Consumers int
	Subjects  map[string]uint64
}

func (s *siege) holdings() map[string]holding {
	s.Helper()
	out := map[string]holding{}
	for _, name := range []string{events.StreamLedger, events.StreamReleases, events.StreamAcks, events.StreamBeats, "KV_" + events.BucketLease} {
		stream, err := s.js.Stream(bustest.Context(s), name)
		if err != nil {
			s.Fatalf("%s: %v", name, err)
		}
		info, err := stream.Info(bustest.Context(s), jetstream.WithSubjectFilter(">"))
		if err != nil {
			s.Fatal(err)
		}
		config, err := json.Marshal(info.Config)
		if err != nil {
			s.Fatal(err)
		}
		own := info.State.Subjects
		for subject := range own {
			if strings.HasSuffix(subject, ".own.a1") {
				delete(own, subject) // it may say there what it likes
			}
		}
		out[name] = holding{string(config), info.State.Consumers, own}
	}
	return out
}

// unchanged says that everything is as it was.
func (s *siege) unchanged(what string, before map[string]holding) {
	s.Helper()
	after := s.holdings()
	for name, was := range before {
		if got, want := fmt.Sprint(after[name]), fmt.Sprint(was); got != want {
			s.Errorf("%s: %s was changed:\n%s\n%s", what, name, want, got)
		}
	}
}

// others are subjects that lead to what is not the attacker's.
var others = []string{
	"lockstep.live.other", "lockstep.pulse", "lockstep.release.other", "lockstep.release.own", "lockstep.ledger", "lockstep.live.own",
	"lockstep.ack.other.a1", "lockstep.ack.own.a2", "lockstep.beat.other.a1", "lockstep.drift.other.a1", "lockstep.proof.other.a1", "$KV.LEASE.publisher", "$KV.ALARMS.publisher",
	"lockstep.agents.ack.other.a1", "lockstep.agents.beat.other.a1", "lockstep.agents.last.other", "lockstep.agents.reader.c1.other",
	"lockstep.api.DIRECT.GET.RELEASES.lockstep.release.other", "lockstep.api.CONSUMER.CREATE.RELEASES.c1.lockstep.release.other",
	"lockstep.api.DIRECT.GET.RELEASES", "$JS.API.DIRECT.GET.RELEASES", "$JS.API.DIRECT.GET.RELEASES.lockstep.release.other",
	"$JS.API.STREAM.DELETE.LEDGER", "$JS.API.STREAM.PURGE.RELEASES", "$JS.API.STREAM.MSG.GET.LEDGER", "$JS.API.STREAM.MSG.DELETE.LEDGER",
	"$JS.API.STREAM.UPDATE.RELEASES", "$JS.API.STREAM.INFO.RELEASES", "$JS.API.STREAM.CREATE.NEW", "$JS.API.STREAM.NAMES", "$JS.API.INFO",
	"$JS.API.CONSUMER.CREATE.LEDGER.c1.lockstep.ledger", "$JS.API.CONSUMER.CREATE.RELEASES", "$JS.API.CONSUMER.DURABLE.CREATE.RELEASES.c1", "$JS.API.CONSUMER.LIST.RELEASES",
	"$SYS.REQ.CLAIMS.UPDATE", "$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING", "_INBOX_other_a1.x.y",
}

func TestAnAgentPublishesNothingUnderAnothersSubjects(t *testing.T) {
	s := newSiege(t)
	before := s.holdings()
	for _, subject := range others {
		if err := s.nc.Publish(subject, []byte("evil")); err != nil {
			t.Fatal(err)
		}
		s.denied("publish to " + subject)
	}
	s.unchanged("publishing", before)
}

func TestAnAgentSubscribesToNothingOfAnothers(t *testing.T) {
	s := newSiege(t)
	for _, subject := range append(others, ">", "lockstep.>", "lockstep.live.*", "lockstep.ack.>", "lockstep.beat.>", "_INBOX_*.>", "_INBOX_other_a1.>", "_INBOX_publisher.>", "_R_.>", "$JS.>", "$SYS.>") {
		if strings.HasSuffix(subject, ".pulse") || subject == "lockstep.live.own" {
			continue
		}
		if _, err := s.nc.SubscribeSync(subject); err != nil {
			t.Fatal(err)
		}
		s.denied("subscribe to " + subject)
		if _, err := s.nc.QueueSubscribeSync(subject, "q"); err != nil {
			t.Fatal(err)
		}
		s.denied("subscribe to " + subject + " in a queue")
	}
}

// asks are all requests that an agent may make, with bodies that are answered.
func asks(consumer string) map[string]string {
	return map[string]string{
		"lockstep.api.DIRECT.GET.RELEASES.lockstep.release.own":                          "",
		"lockstep.api.CONSUMER.CREATE.RELEASES." + consumer + "x.lockstep.release.own":   "{}",
		"lockstep.api.CONSUMER.CREATE.RELEASES." + consumer + "new.lockstep.release.own": reader,
		"lockstep.api.CONSUMER.MSG.NEXT.RELEASES." + consumer:                            `{"batch":5,"expires":100000000,"idle_heartbeat":50000000}`,
		"lockstep.api.CONSUMER.MSG.NEXT.RELEASES.none":                                   "",
		"lockstep.api.CONSUMER.DELETE.RELEASES.none":                                     "",
		"lockstep.ack.own.a1":   "ack",
		"lockstep.beat.own.a1":  "beat",
		"lockstep.drift.own.a1": "drift",
	}
}

const reader = `{"stream_name":"RELEASES","config":{"deliver_policy":"all","ack_policy":"none","filter_subject":"lockstep.release.own","replay_policy":"instant",` +
	`"inactive_threshold":30000000000,"num_replicas":1,"mem_storage":true},"action":"create"}`

// The server checks no right for the subject that an answer is to go to.
func TestNoAnswerGoesIntoAStream(t *testing.T) {
	s := newSiege(t)
	before := s.holdings()
	for i, target := range others {
		name := fmt.Sprintf("c%d", i)
		answer, err := s.nc.RequestWithContext(bustest.Context(t), "lockstep.api.CONSUMER.CREATE.RELEASES."+name+".lockstep.release.own", []byte(reader))
		if err != nil || strings.Contains(string(answer.Data), "error") {
			t.Fatalf("%v %s", err, answer.Data)
		}
		for subject, body := range asks(name) {
			if err := s.nc.PublishRequest(subject, target, []byte(body)); err != nil {
				t.Fatal(err)
			}
		}
		s.flush()
		for _, made := range []string{name, name + "new"} {
			bustest.Eventually(t, "the consumer is deleted", func() bool {
				answer, err := s.nc.RequestWithContext(bustest.Context(t), "lockstep.api.CONSUMER.DELETE.RELEASES."+made, nil)
				return err == nil && strings.Contains(string(answer.Data), `"success":true`)
			})
		}
		s.unchanged("answers to "+target, before)
	}
}

func TestAnAgentHasNoConsumerButAShortLivedReader(t *testing.T) {
	s := newSiege(t)
	before := s.holdings()
	type change = func(config, request map[string]any)
	changes := map[string]change{
		"durable":      func(c, _ map[string]any) { c["durable_name"] = "c" },
		"named":        func(c, _ map[string]any) { c["name"] = "c" },
		"acknowledged": func(c, _ map[string]any) { c["ack_policy"] = "explicit" },
		"unfiltered":   func(c, _ map[string]any) { delete(c, "filter_subject") },
		"of another":   func(c, _ map[string]any) { c["filter_subject"] = "lockstep.release.other" },
		"of all":       func(c, _ map[string]any) { c["filter_subject"] = "lockstep.release.*" },
		"of several": func(c, _ map[string]any) {
			c["filter_subjects"] = []string{"lockstep.release.own", "lockstep.release.other"}
		},
		"lasting":        func(c, _ map[string]any) { c["inactive_threshold"] = 1 << 60 },
		"on disk":        func(c, _ map[string]any) { c["mem_storage"] = false },
		"replicated":     func(c, _ map[string]any) { c["num_replicas"] = 3 },
		"of the ledger":  func(_, r map[string]any) { r["stream_name"] = "LEDGER" },
		"unknown":        func(c, _ map[string]any) { c["unknown"] = 1 },
		"unknown beside": func(_, r map[string]any) { r["unknown"] = 1 },
		"pinned": func(c, _ map[string]any) {
			c["priority_groups"] = []string{"a"}
			c["priority_policy"] = "pinned_client"
		},
	}
	for _, target := range others {
		changes["delivering to "+target] = func(c, _ map[string]any) { c["deliver_subject"] = target }
		changes["delivering headers to "+target] = func(c, _ map[string]any) { c["deliver_subject"], c["headers_only"] = target, true }
	}
	for name, change := range changes {
		var request map[string]any
		if err := json.Unmarshal([]byte(reader), &request); err != nil {
			t.Fatal(err)
		}
		change(request["config"].(map[string]any), request)
		body, err := json.Marshal(request)
		if err != nil {
			t.Fatal(err)
		}
		refused := s.refused.Load()
		answer, err := s.nc.RequestWithContext(bustest.Context(t), "lockstep.api.CONSUMER.CREATE.RELEASES.c.lockstep.release.own", body)
		if err != nil || !strings.Contains(string(answer.Data), "403") || s.refused.Load() != refused+1 {
			t.Errorf("%s: %v %s, refused %d", name, err, answer.Data, s.refused.Load()-refused)
		}
	}
	s.unchanged("consumers", before)
}

func TestTheLastMessageIsAllThatAnAgentGetsDirectly(t *testing.T) {
	s := newSiege(t)
	for _, body := range []string{`{"batch":10}`, `{"seq":1}`, `{"multi_last":["lockstep.release.>"]}`, `{"next_by_subj":"lockstep.release.other"}`, `{"last_by_subj":"lockstep.release.other"}`, `{"seq":1,"batch":100,"next_by_subj":">"}`} {
		answer, err := s.nc.RequestWithContext(bustest.Context(t), "lockstep.api.DIRECT.GET.RELEASES.lockstep.release.own", []byte(body))
		if err != nil || answer.Header.Get("Status") != "408" || len(answer.Data) > 0 {
			t.Errorf("%s: %v %v", body, err, answer)
		}
	}
}

func TestHeadersDoNotReachFurtherThanSubjects(t *testing.T) {
	s := newSiege(t)
	before := s.holdings()
	for name, header := range map[string]nats.Header{
		"rollup of all":     {"Nats-Rollup": {"all"}},
		"rollup of one":     {"Nats-Rollup": {"sub"}},
		"trace to a stream": {"Nats-Trace-Dest": {"lockstep.ack.other.a1"}},
		"trace to ledger":   {"Nats-Trace-Dest": {"lockstep.ledger"}, "Nats-Trace-Only": {"true"}},
		"schedule":          {"Nats-Schedule": {"@at 2020-01-01T00:00:00Z"}, "Nats-Schedule-Target": {"lockstep.ack.other.a1"}},
		"expires":           {"Nats-TTL": {"1s"}},
		"batch":             {"Nats-Batch-Id": {"b"}, "Nats-Batch-Sequence": {"1"}, "Nats-Batch-Commit": {"1"}},
		"who it is":         {"Nats-Request-Info": {`{"acc":"LOCKSTEP","user":"publisher"}`}},
	} {
		for subject, body := range asks("none") {
			if body == reader {
				continue
			}
			m := &nats.Msg{Subject: subject, Reply: "_INBOX_own_a1.x", Header: header, Data: []byte(body)}
			if err := s.nc.PublishMsg(m); err != nil {
				t.Fatal(err)
			}
		}
		s.flush()
		s.unchanged(name, before)
	}
}

// What reaches another agent's live subject is not signed for it: it is counted, and changes nothing.
func TestAnAnswerOnAnothersLiveSubjectIsNoise(t *testing.T) {
	s := newSiege(t)
	f := feedOf(t, s.g.Join(s.g.Enrol("other", "a1")), s.other)
	expect(t, f, s.other, 3)
	if err := s.nc.PublishRequest("lockstep.api.DIRECT.GET.RELEASES.lockstep.release.own", "lockstep.live.other", nil); err != nil {
		t.Fatal(err)
	}
	go func() { _, _ = f.Next(t.Context()) }()
	bustest.Eventually(t, "it is counted", func() bool {
		n := uint64(0)
		for _, c := range f.Rejected() {
			n += c
		}
		return n == 1
	})
	if p := f.Position(); p.Revision != 3 {
		t.Errorf("moved to %d", p.Revision)
	}
}

func TestWithoutCredentialsOfItsOwnNobodyComesIn(t *testing.T) {
	s := newSiege(t)
	another := s.g.Enrol("other", "a1")
	stranger := bustest.StartGuarded(t)
	foreign := stranger.Enrol("own", "a1")
	person, err := nkeys.CreateUser()
	if err != nil {
		t.Fatal(err)
	}
	personKey, _ := person.PublicKey()
	personSeed, _ := person.Seed()
	claims := jwt.NewUserClaims(personKey)
	if _, err := claims.Encode(person); err == nil {
		t.Error("a user signed a user")
	}
	account, err := nkeys.CreateAccount()
	if err != nil {
		t.Fatal(err)
	}
	selfMade, err := claims.Encode(account)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(nonce []byte) ([]byte, error) { return person.Sign(nonce) }
	for name, opts := range map[string][]nats.Option{
		"nobody":                              nil,
		"a password":                          {nats.UserInfo("publisher", "publisher")},
		"a token":                             {nats.Token("publisher")},
		"a person's key alone":                {nats.Nkey(personKey, sign)},
		"another's JWT":                       {nats.UserJWTAndSeed(another.JWT, s.m.Seed)},
		"a person's key under an agent's JWT": {nats.UserJWTAndSeed(s.m.JWT, string(personSeed))},
		"an account of no operator":           {nats.UserJWTAndSeed(selfMade, string(personSeed))},
		"an account of another operator":      {nats.UserJWTAndSeed(foreign.JWT, foreign.Seed)},
		"another operator's publisher":        {nats.UserCredentials(stranger.Authority.Publisher())},
	} {
		nc, err := nats.Connect(s.g.ClientURL(), append(opts, nats.Timeout(bustest.Deadline))...)
		if !errors.Is(err, nats.ErrAuthorization) && !errors.Is(err, nats.ErrAuthExpired) && !errors.Is(err, nats.ErrAuthRevoked) {
			t.Errorf("%s: %v", name, err)
		}
		if nc != nil {
			nc.Close()
		}
	}
}

func TestARevokedAgentIsCutOffAndKeptOut(t *testing.T) {
	s := newSiege(t)
	stays := s.g.Enrol("own", "a2")
	kept := s.connect(nats.UserJWTAndSeed(stays.JWT, stays.Seed))
	lost := make(chan struct{})
	s.nc.SetClosedHandler(func(*nats.Conn) { close(lost) })
	ctx := bustest.Context(t)
	accounts, err := s.g.Authority.Accounts([]string{s.m.Key})
	if err != nil {
		t.Fatal(err)
	}
	o := bus.Options{Name: "system", URL: s.g.ClientURL(), Credentials: s.g.Authority.System()}
	if err := bus.PushAccounts(ctx, o, accounts); err != nil {
		t.Fatal(err)
	}
	select {
	case <-lost:
	case <-ctx.Done():
		t.Fatal("it is still connected")
	}
	if err := kept.FlushWithContext(ctx); err != nil {
		t.Errorf("another agent lost its connection: %v", err)
	}
	out := func(when string) {
		t.Helper()
		if _, err := nats.Connect(s.g.ClientURL(), nats.Timeout(bustest.Deadline), nats.UserJWTAndSeed(s.m.JWT, s.m.Seed)); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s: %v", when, err)
		}
		again, err := s.g.Authority.Agent("own", "a1", s.m.Key)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nats.Connect(s.g.ClientURL(), nats.Timeout(bustest.Deadline), nats.UserJWTAndSeed(again, s.m.Seed)); !errors.Is(err, nats.ErrAuthorization) {
			t.Errorf("%s, with a new JWT: %v", when, err)
		}
	}
	out("after the revocation")
	s.g.Shutdown()
	s.g.Restart()
	out("after a restart of the server")
	s.connect(nats.UserJWTAndSeed(stays.JWT, stays.Seed))
}
