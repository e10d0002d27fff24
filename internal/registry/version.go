package registry

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/mod/semver"
)

// checkVersion says whether a version is a semantic one; 1.4 stands for 1.4.0.
func checkVersion(at, version string) error {
	if version == "" || semver.IsValid("v"+version) {
		return nil
	}
	return wrong(at, "%q is no semantic version: write it as in 1.4.0", version)
}

// compareVersions orders versions; none is below all.
func compareVersions(a, b string) int { return semver.Compare("v"+a, "v"+b) }

// A versionRange is comparisons that must all hold, as in ">=1.2 <2".
type versionRange []comparison

type comparison struct{ operator, version string }

var operators = map[string]func(order int) bool{
	"":   func(order int) bool { return order == 0 },
	"=":  func(order int) bool { return order == 0 },
	"<":  func(order int) bool { return order < 0 },
	"<=": func(order int) bool { return order <= 0 },
	">":  func(order int) bool { return order > 0 },
	">=": func(order int) bool { return order >= 0 },
}

func parseRange(text string) (versionRange, error) {
	var out versionRange
	for _, word := range strings.Fields(text) {
		version := strings.TrimLeft(word, "<>=")
		c := comparison{word[:len(word)-len(version)], version}
		if operators[c.operator] == nil || !semver.IsValid("v"+version) {
			out = nil
			break
		}
		out = append(out, c)
	}
	if out == nil {
		return nil, fmt.Errorf("%q is no range of versions: write it as in '>=1.2 <2'", text)
	}
	return out, nil
}

// holds says whether a version lies in the range; what is no version does not.
func (r versionRange) holds(version string) bool {
	return semver.IsValid("v"+version) && !slices.ContainsFunc(r, func(c comparison) bool {
		return !operators[c.operator](compareVersions(version, c.version))
	})
}

// inRange is holds for a range that was checked when it was read.
func inRange(text, version string) bool {
	r, err := parseRange(text)
	return err == nil && r.holds(version)
}
