// The query whose answer every change of a service account alters.

export const LIST = { queryKey: ['get', '/api/v1/service-accounts'] }
