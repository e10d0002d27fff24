package registry

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/lockstep-dev/lockstep/pkg/events"
)

var (
	notInName     = regexp.MustCompile(`[^a-z0-9]+`)
	notInResource = regexp.MustCompile(`[^A-Za-z0-9._-]+`)
)

// checkManifestName says whether a manifest of a kind may have a name, and how to write it where it may not.
func checkManifestName(kind, name string) error {
	if slices.Contains(events.Kinds, kind) {
		return CheckKey(kind + "/" + name)
	}
	return CheckName(name)
}

// CheckName is events.CheckName with the name as it could be written, for environments, templates, policies and labels.
func CheckName(name string) error {
	if err := events.CheckName(name); err != nil {
		return corrected(err, clipName(strings.Trim(notInName.ReplaceAllString(strings.ToLower(name), "-"), "-"), 63), events.CheckName)
	}
	return nil
}

// CheckKey is events.CheckKey with the key as it could be written.
func CheckKey(key string) error {
	err := events.CheckKey(key)
	if err == nil {
		return nil
	}
	kind, name, found := strings.Cut(key, "/")
	if !found {
		return err
	}
	if !slices.Contains(events.Kinds, kind) {
		kind = strings.ToLower(kind)
	}
	return corrected(err, kind+"/"+clipName(strings.TrimLeft(strings.Trim(notInResource.ReplaceAllString(name, "-"), "-"), "._-"), 128), events.CheckKey)
}

func corrected(err error, name string, check func(string) error) error {
	if check(name) != nil {
		return err
	}
	return fmt.Errorf("%w; write %s", err, name)
}

func clipName(s string, most int) string {
	return strings.TrimRight(s[:min(len(s), most)], "-")
}
