package main

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// isQuotaConflict reports whether the answer is a quota conflict.
func isQuotaConflict(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && (details.Kind == "resourcequotas" || details.Kind == "clusterresourcequotas")
}

// isAnswer reports whether err is an answer of a server. Otherwise there was no answer.
func isAnswer(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// mayHaveStored reports whether a request with this status code may have stored its object. A
// timeout or a storage error does not say, but a 4xx does.
func mayHaveStored(code int) bool {
	return code >= http.StatusInternalServerError
}

var (
	quoted  = regexp.MustCompile(`"[^"]*"`)
	numbers = regexp.MustCompile(`\d+`)
)

// reasonOf returns the key under which failures are counted, reason/code/message. It masks names
// and numbers and cuts the message, so that many refusals of one kind have one key.
func reasonOf(err error) string {
	var status apierrors.APIStatus
	if errors.As(err, &status) {
		s := status.Status()
		return fmt.Sprintf("%s/%d/%s", s.Reason, s.Code, masked(s.Message))
	}
	for inner := errors.Unwrap(err); inner != nil; inner = errors.Unwrap(err) {
		err = inner // The outer layers name the pod and the URL.
	}
	return "noAnswer/0/" + masked(err.Error())
}

func masked(message string) string {
	const longest = 100
	message = numbers.ReplaceAllString(quoted.ReplaceAllString(message, `"…"`), "N")
	if runes := []rune(message); len(runes) > longest {
		return string(runes[:longest])
	}
	return message
}
