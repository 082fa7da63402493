// The one command that connects a cluster. The names of the values are those of deploy/charts/agent-cluster/values.yaml.

/** Where the chart lies in a checkout of Fairlead. */
const CHART = './deploy/charts/agent-cluster'

// What is still to be said. A shell takes the brackets for files that are not there, so nothing happens too early.
const NO_REPOSITORY = '<your-registry>/fairlead-agent'
const NO_TAG = '<tag>'

/** Returns a command that reads well in a terminal and can be run twice. */
export function helmCommand(image: string, hubUrl: string, joinToken: string): string {
  const { repository, tag } = partsOf(image.trim())
  return [
    `helm upgrade --install fairlead ${CHART}`,
    '--namespace fairlead-system --create-namespace',
    `--set image.repository=${repository || NO_REPOSITORY}`,
    // A tag of digits would become a number otherwise.
    `--set-string image.tag=${tag || NO_TAG}`,
    `--set hub.url=${hubUrl}`,
    `--set joinToken.value=${joinToken}`,
  ].join(' \\\n  ')
}

/** Tells the tag from the port of a registry. */
function partsOf(image: string): { repository: string; tag: string } {
  const colon = image.lastIndexOf(':')
  return colon > image.lastIndexOf('/')
    ? { repository: image.slice(0, colon), tag: image.slice(colon + 1) }
    : { repository: image, tag: '' }
}
