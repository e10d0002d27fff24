package secretscan

import (
	"slices"
	"strings"
	"sync"

	ahocorasick "github.com/BobuSumisu/aho-corasick"
	"github.com/spf13/viper"
	"github.com/zricethezav/gitleaks/v8/config"
)

// generic is the rule of gitleaks that guesses.
const generic = "generic-api-key"

// minLeaked is the length of the shortest text that a rule of gitleaks matches.
const minLeaked = 10

// A ruleset is the rules of gitleaks. Its own detector is made for files and histories: it links archive readers and a terminal
// library, logs, and takes 80 µs for a word, where most words hold no rule's keyword.
type ruleset struct {
	keywords *ahocorasick.Trie
	rules    map[string][]config.Rule // by keyword
	allowed  []*config.Allowlist
}

var gitleaks = sync.OnceValue(func() ruleset {
	reader := viper.New()
	reader.SetConfigType("toml")
	var raw config.ViperConfig
	err := reader.ReadConfig(strings.NewReader(config.DefaultConfig))
	if err == nil {
		err = reader.Unmarshal(&raw)
	}
	var c config.Config
	if err == nil {
		c, err = raw.Translate()
	}
	if err != nil {
		panic("secretscan: the rules of gitleaks cannot be read: " + err.Error()) // they are part of the program
	}
	out := ruleset{rules: map[string][]config.Rule{}, allowed: c.Allowlists}
	var keywords []string
	for _, rule := range c.Rules {
		if rule.Regex == nil || rule.Path != nil {
			continue // it looks at the names of files
		}
		for _, keyword := range rule.Keywords {
			keyword = strings.ToLower(keyword)
			if out.rules[keyword] == nil {
				keywords = append(keywords, keyword)
			}
			out.rules[keyword] = append(out.rules[keyword], rule)
		}
	}
	out.keywords = ahocorasick.NewTrieBuilder().AddStrings(keywords).Build()
	return out
})

// leaked is the rule of gitleaks that a text breaks, written as a program would; "" is none.
func leaked(identifier, text string) string {
	line := identifier + ` = "` + text + `"`
	set := gitleaks()
	tried := map[string]bool{}
	for _, match := range set.keywords.MatchString(strings.ToLower(line)) {
		for _, rule := range set.rules[match.MatchString()] {
			if tried[rule.RuleID] || rule.RuleID == generic && isPublic(text) {
				continue
			}
			tried[rule.RuleID] = true
			if set.breaks(rule, line) {
				return rule.RuleID
			}
		}
	}
	return ""
}

func (s ruleset) breaks(rule config.Rule, line string) bool {
	for _, groups := range rule.Regex.FindAllStringSubmatch(line, -1) {
		secret := groups[0]
		if rule.SecretGroup > 0 && rule.SecretGroup < len(groups) {
			secret = groups[rule.SecretGroup]
		} else {
			for _, group := range groups[1:] {
				if group != "" {
					secret = group
					break
				}
			}
		}
		if rule.Entropy > 0 && entropy(secret) <= rule.Entropy || rule.RuleID == generic && !isGuessed(groups[0], secret) {
			continue
		}
		if !allows(s.allowed, groups[0], secret, line) && !allows(rule.Allowlists, groups[0], secret, line) {
			return true
		}
	}
	return false
}

// guesses are the words before a value at which the rule that guesses looks; it finds them within others too, such as valkey.
var guesses = []string{"access", "auth", "api", "apikey", "credential", "credentials", "creds", "key", "passwd", "password", "secret", "token"}

func isGuessed(match, secret string) bool {
	before, _, _ := strings.Cut(match, secret)
	return slices.ContainsFunc(words(before), func(word string) bool { return slices.Contains(guesses, word) })
}

// allows says whether one of some allow-lists lets a secret pass; what they say of files and commits has no meaning here.
func allows(lists []*config.Allowlist, match, secret, line string) bool {
	for _, list := range lists {
		target := secret
		switch list.RegexTarget {
		case "match":
			target = match
		case "line":
			target = line
		}
		regex := list.RegexAllowed(target)
		word, _ := list.ContainsStopWord(secret)
		if list.MatchCondition == config.AllowlistMatchAnd {
			if len(list.Paths)+len(list.Commits) == 0 && (regex || len(list.Regexes) == 0) && (word || len(list.StopWords) == 0) {
				return true
			}
		} else if regex || word {
			return true
		}
	}
	return false
}
