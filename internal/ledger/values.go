package ledger

import (
	"encoding/json"
	"errors"
	"maps"
	"slices"

	"github.com/lockstep-dev/lockstep/internal/registry"
	"github.com/lockstep-dev/lockstep/internal/secretscan"
)

// judgeSecrets refuses values that look like secrets, before anything of them is kept. Rollbacks bring back what was released, and
// are not looked at.
func judgeSecrets(c Compilation) error {
	var found []secretscan.Finding
	scanned := map[*registry.Manifest]bool{} // environments share manifests
	for _, e := range c.Environments {
		for _, edit := range e.Edits.Manifests {
			if m, there := e.Sources.Manifest(edit.Key); there && !scanned[m] {
				scanned[m] = true
				found = append(found, secretscan.Manifest(m)...)
			}
		}
		for _, key := range slices.Sorted(maps.Keys(e.Edits.Quick)) {
			if value := e.Edits.Quick[key]; value != nil {
				m, _ := e.Sources.Manifest(key)
				found = append(found, secretscan.Value(key, value, m)...)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	var said []string
	for _, f := range found {
		if text := f.String(); !slices.Contains(said, text) {
			said = append(said, text)
		}
	}
	return refuse(KindInvalid, secretscan.Remedy, "%s", some(said))
}

// noSecret refuses a text beside the values that holds what looks like a secret.
func noSecret(what, text string) error {
	quoted, err := json.Marshal(text)
	if err != nil {
		return err
	}
	if found := secretscan.Value("document/text", quoted, nil); len(found) > 0 {
		return refuse(KindInvalid, "say it without the secret", "%s holds what looks like a secret (%s)", what, found[0].Rule)
	}
	return nil
}

// judgeFlags refuses flags that cannot be evaluated.
func judgeFlags(c Compilation, id string) error {
	var problems []string
	for _, e := range c.Environments {
		err := e.Rendering.CheckFlags(id)
		list, _ := errors.AsType[registry.Problems](err)
		for _, problem := range list {
			if text := problem.Error(); !slices.Contains(problems, text) {
				problems = append(problems, text)
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	return refuse(KindInvalid, "", "%s", some(problems))
}
