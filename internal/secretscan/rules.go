package secretscan

import (
	"math"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

var (
	privateKey    = regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----`)
	authorization = regexp.MustCompile(`(?i)^(?:bearer|basic)\s+[a-z0-9+/=._~-]{8,}$`)
	assigned      = regexp.MustCompile(`(?i)(?:^|[^a-z0-9])(?:password|passwd|pwd|passphrase|secret|api[_-]?key|access[_-]?key|account[_-]?key|token)=["']?([^\s;&"'=][^\s;&"']*)`)
	userinfo      = regexp.MustCompile(`[a-zA-Z][a-zA-Z0-9+.-]*://[^\s/?#@:"']*:([^\s/?#@"']+)@`)
	placeholder   = regexp.MustCompile(`^(?:\$\{.*\}|\$\(.*\)|\$[A-Za-z_][A-Za-z0-9_]*|\{.*\}|<.*>|%.*%|\[.*\]|[*•]+|[xX]{3,}|\.{3}|…)$`)
)

// sensitive are the last words of names whose values are secrets.
var (
	sensitive     = []string{"password", "passwd", "pwd", "pass", "passphrase", "passcode", "secret", "token", "apikey", "secretkey", "accesskey", "privatekey", "credential", "credentials", "creds", "passwords", "secrets", "authorization"}
	passwords     = []string{"password", "passwd", "pwd", "passphrase", "passcode"}
	sensitiveKeys = []string{"api", "access", "private", "secret", "signing", "encryption", "master", "shared", "account", "auth", "session", "hmac"}
	decorations   = []string{"value", "text", "plain", "base64", "b64", "default"}
	noSecrets     = []string{"none", "null", "true", "false", "yes", "no", "required", "optional", "enabled", "disabled", "hidden", "masked", "redacted", "password", "token", "secret"}
)

// words are the words of a name, in lower case, without digits behind the last of them: dbPassword2 is db, password.
func words(name string) []string {
	var out []string
	word := []rune{}
	flush := func() {
		if len(word) > 0 {
			out = append(out, strings.ToLower(string(word)))
		}
		word = word[:0]
	}
	runes := []rune(name)
	for i, r := range runes {
		switch {
		case !unicode.IsLetter(r):
			flush()
			continue
		case unicode.IsUpper(r) && i > 0 && (!unicode.IsUpper(runes[i-1]) || i+1 < len(runes) && unicode.IsLower(runes[i+1])):
			flush()
		}
		word = append(word, r)
	}
	flush()
	for len(out) > 1 && slices.Contains(decorations, out[len(out)-1]) {
		out = out[:len(out)-1]
	}
	return out
}

// isSensitive says whether what stands under a name with these words is a secret.
func isSensitive(words []string) bool {
	if len(words) == 0 {
		return false
	}
	last := words[len(words)-1]
	return slices.Contains(sensitive, last) || last == "key" && len(words) > 1 && slices.Contains(sensitiveKeys, words[len(words)-2])
}

// isPassword says whether even a number that stands under a name with these words is a secret.
func isPassword(words []string) bool {
	return len(words) > 0 && slices.Contains(passwords, words[len(words)-1])
}

// isLiteral says whether a text is a value, and not a place, a placeholder, or words for people.
func isLiteral(name []string, text string) bool {
	text = strings.TrimSpace(text)
	switch {
	case text == "", placeholder.MatchString(text), slices.Contains(noSecrets, strings.ToLower(text)), strings.Join(words(text), " ") == strings.Join(name, " "):
		return false
	case strings.Contains(text, "://"), strings.HasPrefix(text, "/"), strings.HasPrefix(text, "./"), strings.HasPrefix(text, "../"):
		return false // other rules look at what a URL holds
	}
	isSentence := strings.ContainsRune(text, ' ') && !strings.ContainsFunc(text, unicode.IsDigit) && !authorization.MatchString(text)
	return !isSentence || slices.Contains(name, "passphrase")
}

// hasUserinfo says whether a text holds a URL with a password.
func hasUserinfo(text string) bool {
	if !strings.Contains(text, "://") {
		return false
	}
	for _, match := range userinfo.FindAllStringSubmatch(text, -1) {
		if !placeholder.MatchString(match[1]) {
			return true
		}
	}
	return false
}

// isAssigned says whether a text assigns a secret, as connection strings and queries do.
func isAssigned(text string) bool {
	if !strings.ContainsRune(text, '=') {
		return false
	}
	for _, match := range assigned.FindAllStringSubmatch(text, -1) {
		if value := strings.TrimRight(match[1], ",.)]}"); !placeholder.MatchString(match[1]) && value != "" && !slices.Contains(noSecrets, strings.ToLower(value)) {
			return true
		}
	}
	return false
}

var (
	candidate = regexp.MustCompile(`^(?:[A-Za-z0-9_-]+|[A-Za-z0-9+/]+)={0,2}$`)
	uuid      = regexp.MustCompile(`^[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
	hexText   = regexp.MustCompile(`^[0-9a-fA-F]+$`)
	notDigest = strings.NewReplacer("sha1-", "", "sha256-", "", "sha384-", "", "sha512-", "")
)

// digests are the lengths of what is written in hexadecimal digits and is no secret: MD5, SHA-1, SHA-2, trace identifiers.
var digests = []int{32, 40, 56, 64, 96, 128}

const (
	minRandom  = 20  // characters
	minEntropy = 3.5 // bits per character
)

// isPublic says whether a text is of a form that is random and no secret.
func isPublic(text string) bool {
	return uuid.MatchString(text) || hexText.MatchString(text) && slices.Contains(digests, len(text)) || notDigest.Replace(text) != text
}

// isRandom says whether a text is one long random word. Words that people make, however many they join, change between lower case,
// upper case and digits less often than chance does.
func isRandom(text string) bool {
	if len(text) < minRandom || !candidate.MatchString(text) || strings.HasPrefix(text, "/") || isPublic(text) {
		return false
	}
	changes, digits, letters, upper, before := 0, 0, 0, false, ' '
	for _, r := range text {
		class := 'l'
		switch {
		case unicode.IsDigit(r):
			class = 'd'
			digits++
		case unicode.IsUpper(r):
			class, upper = 'u', true
			letters++
		case unicode.IsLower(r):
			letters++
		default:
			continue
		}
		if class != before && before != ' ' {
			changes++
		}
		before = class
	}
	often := 0.25 // letters of one case and digits
	if upper {
		often = 0.4
	}
	return digits > 1 && letters > 1 && float64(changes) >= often*float64(digits+letters-1) && entropy(text) >= minEntropy
}

// entropy is Shannon's, in bits per character.
func entropy(text string) float64 {
	counts := map[rune]int{}
	n := 0
	for _, r := range text {
		counts[r]++
		n++
	}
	sum := 0.0
	for _, c := range counts {
		p := float64(c) / float64(n)
		sum -= p * math.Log2(p)
	}
	return sum
}
