package clustermap

import (
	"errors"

	"github.com/locuskv/locus/api"
)

// Cure is the routes that an error of routing carries.
func Cure(err error) []api.Route {
	var notFound *api.RangeNotFoundError
	var mismatch *api.EpochMismatchError
	var notLeaseholder *api.NotLeaseholderError
	switch {
	case errors.As(err, &notFound):
		return notFound.Routes
	case errors.As(err, &mismatch):
		return mismatch.Routes
	case errors.As(err, &notLeaseholder):
		return notLeaseholder.Routes
	}
	return nil
}
