package main

import (
	"errors"
	"fmt"
	"net/http"
	"regexp"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
)

// isQuotaConflict tells whether the answer is the one that the proxy exists for.
func isQuotaConflict(err error) bool {
	var status apierrors.APIStatus
	if !apierrors.IsConflict(err) || !errors.As(err, &status) {
		return false
	}
	details := status.Status().Details
	return details != nil && (details.Kind == "resourcequotas" || details.Kind == "clusterresourcequotas")
}

// isAnswer tells whether err is an answer of a server, as opposed to a failure to get one.
func isAnswer(err error) bool {
	var status apierrors.APIStatus
	return errors.As(err, &status)
}

// mayHaveStored tells whether a request that was answered with this status code may have stored its object all the same: a timeout or a
// storage error says nothing about it, a 4xx does.
func mayHaveStored(code int) bool {
	return code >= http.StatusInternalServerError
}

var (
	quoted  = regexp.MustCompile(`"[^"]*"`)
	numbers = regexp.MustCompile(`\d+`)
)

// reasonOf is the key under which failures are counted, reason/code/message: names and numbers are masked and the message is cut, so that
// a thousand refusals of one kind are one entry.
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
