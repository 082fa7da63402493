// The one command that connects a cluster. The names of the values are those of deploy/charts/agent-cluster/values.yaml.

/** Where the chart lies in a checkout of Fairlead. */
const CHART = './deploy/charts/agent-cluster'

/** Returns a command that reads well in a terminal and can be run twice. */
export function helmCommand(hubUrl: string, joinToken: string): string {
  return [
    `helm upgrade --install fairlead ${CHART}`,
    '--namespace fairlead-system --create-namespace',
    `--set hub.url=${hubUrl}`,
    `--set joinToken.value=${joinToken}`,
  ].join(' \\\n  ')
}
