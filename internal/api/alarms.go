package api

import (
	"context"
	"net/http"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/access"
	"github.com/lockstep-dev/lockstep/internal/fleet"
	"github.com/lockstep-dev/lockstep/internal/ledger"
	"github.com/lockstep-dev/lockstep/internal/notify"
	"github.com/lockstep-dev/lockstep/pkg/events"
)

// Alarms are what the publisher tells of what is wrong. Errors are notify.ErrUnknown, notify.ErrInvalid, and a
// *ledger.Error where nobody is told of anything.
type Alarms interface {
	Alarms() (notify.Overview, error)
	// AcknowledgeAlarm notes who takes care of an open alarm.
	AcknowledgeAlarm(id, by, reason string) (notify.Alarm, error)
	// SilenceAlarms keeps alarms of environments that match a pattern, of a rule or of all, from being sent until a time.
	SilenceAlarms(environment string, rule notify.Rule, until time.Time, by, reason string) (notify.Silence, error)
	// EndSilence ends a silence before its time.
	EndSilence(id string) error
}

// An Acknowledgement says who takes care of an alarm.
type Acknowledgement struct {
	By     string `json:"by" doc:"who acts"`
	Reason string `json:"reason" minLength:"1" maxLength:"1024"`
}

// A SilenceRequest asks for quiet.
type SilenceRequest struct {
	Environment string      `json:"environment" doc:"pattern, as prod-*" minLength:"1" maxLength:"63"`
	Rule        notify.Rule `json:"rule,omitempty" doc:"only this rule; default all"`
	Until       time.Time   `json:"until"`
	Acknowledgement
}

// An EndRequest says who ends a silence.
type EndRequest struct {
	By string `json:"by" doc:"who acts"`
}

// registerAlarms serves alarms. Acknowledging and silencing are no decisions of the ledger: who is on the publisher's machine is believed
// to be who they say, and from other hosts it takes a token of somebody who operates.
func registerAlarms(api huma.API, b Backend) {
	get(api, "/alarms", "alarms", "What is wrong and whom it was told, and what could not be sent", func(context.Context, *struct{}) (notify.Overview, error) { return b.Alarms() })
	post(api, "/alarms/{id}/acknowledge", "acknowledge-alarm", "Say who takes care of an open alarm", func(ctx context.Context, id string, in Acknowledgement) (out notify.Alarm, err error) {
		if in.By, err = operates(ctx, b, in.By); err != nil {
			return out, err
		}
		return b.AcknowledgeAlarm(id, in.By, in.Reason)
	})
	huma.Register(api, huma.Operation{OperationID: "silence-alarms", Method: http.MethodPost, Path: Prefix + "/silences", Summary: "Keep alarms from being sent until a time", Tags: []string{"alarms"}},
		func(ctx context.Context, in *struct{ Body SilenceRequest }) (*answer[notify.Silence], error) {
			by, err := operates(ctx, b, in.Body.By)
			if err != nil {
				return answered(notify.Silence{}, err)
			}
			return answered(b.SilenceAlarms(in.Body.Environment, in.Body.Rule, in.Body.Until, by, in.Body.Reason))
		})
	post(api, "/silences/{id}/end", "end-silence", "End a silence before its time", func(ctx context.Context, id string, in EndRequest) (struct{}, error) {
		if _, err := operates(ctx, b, in.By); err != nil {
			return struct{}{}, err
		}
		return struct{}{}, b.EndSilence(id)
	})
}

// post registers a write to something that has an id.
func post[I, T any](api huma.API, path, id, summary string, write func(context.Context, string, I) (T, error)) {
	huma.Register(api, huma.Operation{OperationID: id, Method: http.MethodPost, Path: Prefix + path, Summary: summary, Tags: []string{"alarms"}},
		func(ctx context.Context, in *struct {
			ID   string `path:"id" maxLength:"64"`
			Body I
		}) (*answer[T], error) {
			return answered(write(ctx, in.ID, in.Body))
		})
}

// operates is who acts. From another host it is who holds the token, and it must be somebody who operates.
func operates(ctx context.Context, b Backend, by string) (string, error) {
	if by == "" {
		return "", &ledger.Error{Kind: ledger.KindInvalid, Message: "it is not said who acts"}
	}
	holder, remote := ctx.Value(holderKey{}).(access.Holder)
	if !remote {
		return by, nil
	}
	may := false
	b.Read(func(s *ledger.State, _ fleet.Reports, now time.Time) {
		trust := s.Trust()
		may = trust != nil && (trust.MaySomewhere(holder.Name, events.RoleOperator, now) || trust.MaySomewhere(holder.Name, events.RoleAdministrator, now))
	})
	if !may || holder.Name != by {
		return "", &ledger.Error{Kind: ledger.KindDenied, Message: "from another host, alarms are acknowledged and silenced by operators, each in their own name"}
	}
	return by, nil
}
