package api

import (
	"context"

	"github.com/danielgtaylor/huma/v2"

	"github.com/lockstep-dev/lockstep/internal/notify"
)

// registerAlarms serves alarms. Who takes care of one, and what is silenced, are commands like all others.
func registerAlarms(api huma.API, b Backend) {
	get(api, "/alarms", "alarms", "What is wrong and whom it was told, and what could not be sent", func(context.Context, *struct{}) (notify.Overview, error) { return b.Alarms() })
}
