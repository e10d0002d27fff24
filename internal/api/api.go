package api

import (
	"context"
	"net/http"
	"slices"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Prefix is where the API lives.
const Prefix = "/api/v1"

const (
	// maxBody bounds a write in bytes: what a change file of the largest size becomes as JSON.
	maxBody = 4 << 20
	// maxDirectory bounds one that carries a directory.
	maxDirectory = registry.MaxTotal * 5 / 4
)

// Options are what the API serves.
type Options struct {
	Backend Backend
	Version string   // of the program
	Hosts   []string // lower-case names by which it is reached, beside loopback's
	Beyond  bool     // other machines reach the listener: whoever asks says who they are
	// Refused is told of requests that are refused for who asks, or for how they are signed; nil: nobody is.
	Refused func(events.Reason)
	// Health, Ready and Metrics are served at /healthz, /readyz and /metrics; one that is nil is not.
	Health, Ready, Metrics http.Handler
	Pages                  http.Handler // for people: everything that is neither these nor the API; nil: nothing is there
}

// New is the API as a handler.
func New(o Options) http.Handler {
	mux := http.NewServeMux()
	for path, handler := range map[string]http.Handler{"GET /healthz": o.Health, "GET /readyz": o.Ready, "GET /metrics": o.Metrics} {
		if handler != nil {
			mux.Handle(path, handler)
		}
	}
	config := huma.DefaultConfig("Lockstep publisher", o.Version)
	config.OpenAPIPath, config.DocsPath, config.SchemasPath = Prefix+"/openapi", "", ""
	config.CreateHooks = nil // no links to schemas in every answer
	describeSecurity(&config)
	api := humago.New(mux, config)
	sessions := &access.Sessions{}
	registerLinks(api, sessions)
	registerCommands(api, o)
	registerReads(api, o.Backend)
	registerSources(api, o.Backend)
	registerAudit(api, o.Backend)
	registerAlarms(api, o.Backend)
	return guard(o, &door{Options: o, sessions: sessions, inside: known(mux, o.Pages)})
}

// An answer is a response with a body.
type answer[T any] struct{ Body T }

func answered[T any](body T, err error) (*answer[T], error) {
	if err != nil {
		return nil, problem(err)
	}
	return &answer[T]{body}, nil
}

// A Request is a command as it comes over HTTP.
type Request[C ledger.Body] struct {
	ID          string `json:"id" minLength:"1" maxLength:"128" doc:"made by the client: the same command sent again is done once and gets the same answer"`
	By          string `json:"by" doc:"who acts"`
	DryRun      bool   `json:"dryRun,omitempty" doc:"only say what would happen"`
	TraceParent string `json:"traceparent,omitempty" maxLength:"128" doc:"W3C trace context"`
	// Statement is what the person signed to have this done; a dry run needs none.
	Statement *events.Envelope `json:"statement,omitempty" doc:"where approvals are signed: the person's statement, a DSSE envelope over this command"`
	Command   C                `json:"command"`
}

// CommandPath is where a command is posted to.
func CommandPath(c ledger.Command) string { return Prefix + "/commands/" + c.Verb() }

func registerCommands(api huma.API, o Options) {
	register[ledger.Propose](api, o, "Propose a change", maxDirectory)
	register[ledger.Revise](api, o, "Replace what an open change proposes", maxDirectory)
	register[ledger.Rebase](api, o, "Compile a change whose base has moved anew", maxBody)
	register[ledger.Approve](api, o, "Approve a change; the last approval demanded releases it", maxBody)
	register[ledger.Reject](api, o, "Reject an open change", maxBody)
	register[ledger.Withdraw](api, o, "Withdraw an open change of one's own", maxBody)
	register[ledger.Rollback](api, o, "Undo a change, or bring an environment back to a revision", maxBody)
	register[ledger.Pause](api, o, "Hold back what of an approved change is not released yet", maxBody)
	register[ledger.Resume](api, o, "Let a paused change go on", maxBody)
	register[ledger.BreakGlass](api, o, "Release a change at once, on one person's word", maxBody)
	register[ledger.Review](api, o, "Sign a break-glass off that somebody else used", maxBody)
	register[ledger.ProposeTrust](api, o, "Propose the next trust document", maxBody)
	register[ledger.AddEnvironment](api, o, "Add an environment", maxBody)
	register[ledger.UpdateEnvironment](api, o, "Replace an environment's labels, steward and approvals", maxBody)
	register[ledger.RetireEnvironment](api, o, "Retire an environment", maxBody)
	register[ledger.EnrolAgent](api, o, "Admit an agent's public key to an environment", maxBody)
	register[ledger.RevokeAgent](api, o, "Take an agent's key away", maxBody)
	register[ledger.AcknowledgeAlarm](api, o, "Say who takes care of an open alarm", maxBody)
	register[ledger.SilenceAlarms](api, o, "Keep alarms from being sent until a time", maxBody)
	register[ledger.EndSilence](api, o, "End a silence before its time", maxBody)
}

func register[C ledger.Body](api huma.API, o Options, summary string, most int64) {
	var body C
	path := CommandPath(ledger.Command{Body: body})
	huma.Register(api, huma.Operation{
		OperationID: ledger.Command{Body: body}.Verb(), Method: http.MethodPost, Path: path, Summary: summary, Tags: []string{"commands"}, MaxBodyBytes: most,
	}, func(ctx context.Context, in *struct{ Body Request[C] }) (*answer[ledger.Outcome], error) {
		r := in.Body
		out, err := o.Backend.Do(ctx, ledger.Command{ID: r.ID, By: r.By, TraceParent: r.TraceParent, Body: r.Command, Statement: r.Statement}, r.DryRun)
		if reason := events.ReasonOf(err); slices.Contains(ofStatements, reason) {
			o.refused(reason)
		}
		return answered(out, err)
	})
}
