package credentials

import (
	"fmt"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nkeys"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

// The accounts.
const (
	SystemAccount    = "SYS"
	PublisherAccount = "LOCKSTEP"
	AgentsAccount    = "AGENTS"
)

// door begins every subject under which agents' messages arrive in LOCKSTEP. They come in by one export: a server does not let the answer
// to a message that came in by an export go in by the same one again, which is what would let an agent write elsewhere by naming another
// subject for the answer.
const door = "lockstep.agents."

// API is where agents ask JetStream, in the place of $JS.API: under that one a server answers in every account that has no streams.
const API = "lockstep.api"

// ReaderSubject is where a publisher is asked for a consumer of an environment's releases: the last tokens are its name and the environment.
const ReaderSubject = door + "reader.*.*"

// answersFor is how long the server keeps a way back for answers that nobody used. A pull request lives for 20 s.
const answersFor = 30 * time.Second

// An entrance is one kind of message of agents: what they send it to, under which subject it arrives, and where that leads. What leads
// nowhere is answered there.
type entrance struct{ local, arrives, leads string }

func entrances() []entrance {
	var out []entrance
	for _, word := range []string{"ack", "beat", "drift", "proof"} {
		out = append(out, entrance{"lockstep." + word + ".$1.$2", door + word + ".*.*", "lockstep." + word + ".$1.$2"})
	}
	release := events.ReleaseSubject("$1")
	return append(out,
		entrance{API + ".DIRECT.GET." + events.StreamReleases + "." + release, door + "last.*", "$JS.API.DIRECT.GET." + events.StreamReleases + "." + release},
		entrance{API + ".CONSUMER.CREATE." + events.StreamReleases + ".$1." + events.ReleaseSubject("$2"), ReaderSubject, ""},
		entrance{API + ".CONSUMER.MSG.NEXT." + events.StreamReleases + ".$1", door + "next.*", "$JS.API.CONSUMER.MSG.NEXT." + events.StreamReleases + ".$1"},
		entrance{API + ".CONSUMER.DELETE." + events.StreamReleases + ".$1", door + "done.*", "$JS.API.CONSUMER.DELETE." + events.StreamReleases + ".$1"},
	)
}

// rights are what an agent may publish and subscribe to, and no more.
func rights(environment, agent string) (publish, subscribe []string) {
	own := environment + "." + agent
	inbox := "_INBOX_" + environment + "_" + agent
	return []string{
			API + ".DIRECT.GET." + events.StreamReleases + "." + events.ReleaseSubject(environment),
			API + ".CONSUMER.CREATE." + events.StreamReleases + ".*." + events.ReleaseSubject(environment),
			API + ".CONSUMER.MSG.NEXT." + events.StreamReleases + ".*",
			API + ".CONSUMER.DELETE." + events.StreamReleases + ".*",
			events.AckSubject(environment, agent), events.BeatSubject(environment, agent),
			"lockstep.drift." + own, events.ProofSubject(environment, agent),
		}, []string{
			events.LiveSubject(environment), events.SubjectPulse, inbox + ".>", inbox + "_plan.>",
		}
}

// accounts are the claims of the three accounts, by name. No user whose key is revoked gets into AGENTS, whenever its JWT was issued.
func (a *Authority) accounts(revoked []string) (map[string]*jwt.AccountClaims, error) {
	public := map[string]string{}
	claims := map[string]*jwt.AccountClaims{}
	for name, pair := range map[string]nkeys.KeyPair{SystemAccount: a.system, PublisherAccount: a.publisher, AgentsAccount: a.agents} {
		key, err := pair.PublicKey()
		if err != nil {
			return nil, err
		}
		public[name], claims[name] = key, jwt.NewAccountClaims(key)
		claims[name].Name = name
	}
	inside := claims[PublisherAccount]
	inside.Limits.JetStreamLimits = jwt.JetStreamLimits{
		MemoryStorage: jwt.NoLimit, DiskStorage: jwt.NoLimit, Streams: jwt.NoLimit, Consumer: jwt.NoLimit, MaxAckPending: jwt.NoLimit,
	}
	inside.Exports.Add(
		&jwt.Export{Name: "agents", Subject: door + ">", Type: jwt.Service, ResponseType: jwt.ResponseTypeStream, ResponseThreshold: answersFor},
		&jwt.Export{Name: "live", Subject: jwt.Subject(events.LiveSubject("*")), Type: jwt.Stream},
		&jwt.Export{Name: "pulse", Subject: events.SubjectPulse, Type: jwt.Stream},
	)
	outside := claims[AgentsAccount]
	outside.Imports.Add(
		&jwt.Import{Name: "live", Account: public[PublisherAccount], Subject: jwt.Subject(events.LiveSubject("*")), Type: jwt.Stream},
		&jwt.Import{Name: "pulse", Account: public[PublisherAccount], Subject: events.SubjectPulse, Type: jwt.Stream},
	)
	for _, e := range entrances() {
		outside.Imports.Add(&jwt.Import{Name: e.arrives, Account: public[PublisherAccount], Subject: jwt.Subject(e.arrives), LocalSubject: jwt.RenamingSubject(e.local), Type: jwt.Service})
		if e.leads != "" {
			inside.AddMapping(jwt.Subject(e.arrives), jwt.WeightedMapping{Subject: jwt.Subject(e.leads), Weight: 100})
		}
	}
	for _, key := range revoked {
		outside.RevokeAt(key, never)
	}
	return claims, nil
}

// never is after every JWT.
var never = time.Date(9999, 1, 1, 0, 0, 0, 0, time.UTC)

// Accounts are the JWTs of the accounts by their public keys. Revoked are the public keys of agents that are not to get in any more.
func (a *Authority) Accounts(revoked []string) (map[string]string, error) {
	claims, err := a.accounts(revoked)
	if err != nil {
		return nil, fmt.Errorf("accounts of the bus: %w", err)
	}
	out := map[string]string{}
	for name, c := range claims {
		if out[c.Subject], err = c.Encode(a.operator); err != nil {
			return nil, fmt.Errorf("account %s of the bus: %w", name, err)
		}
	}
	return out, nil
}

// Agent is the user JWT of an agent: it gets in who has the key's seed too, with rights and no others.
func (a *Authority) Agent(environment, agent, key string) (string, error) {
	publish, subscribe := rights(environment, agent)
	return user(a.agents, key, environment+"."+agent, publish, subscribe)
}

// user is a JWT for a key of an account's user.
func user(account nkeys.KeyPair, key, name string, publish, subscribe []string) (string, error) {
	claims := jwt.NewUserClaims(key)
	if claims == nil || !nkeys.IsValidPublicUserKey(key) {
		return "", fmt.Errorf("credentials for %s: its key is no public user nkey (U…)", name)
	}
	claims.Name = name
	claims.Permissions.Pub.Allow.Add(publish...)
	claims.Permissions.Sub.Allow.Add(subscribe...)
	claims.AllowedConnectionTypes.Add(jwt.ConnectionTypeStandard, jwt.ConnectionTypeInProcess) // no leaf node, which would be a whole account
	encoded, err := claims.Encode(account)
	if err != nil {
		return "", fmt.Errorf("credentials for %s: %w", name, err)
	}
	return encoded, nil
}
