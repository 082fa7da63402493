import { expect, test } from 'vitest'
import { helmCommand } from './helm-command'

function imageIn(typed: string): string[] {
  const lines = helmCommand(typed, 'https://hub.test', 'flj_once').split(/ \\\n */)
  return lines.filter((line) => line.includes('image.')).map((line) => line.replace(/^\S+ /, ''))
}

test.each([
  ['registry.test/fairlead-agent:1', 'registry.test/fairlead-agent', '1'],
  [' registry.test:5000/fairlead-agent:1.2 ', 'registry.test:5000/fairlead-agent', '1.2'],
  ['registry.test/fairlead-agent@sha256:12ab', 'registry.test/fairlead-agent@sha256', '12ab'],
])('%s is a repository and a tag', (typed, repository, tag) => {
  expect(imageIn(typed)).toEqual([`image.repository=${repository}`, `image.tag=${tag}`])
})

test.each([
  ['', '<your-registry>/fairlead-agent'],
  ['registry.test:5000/fairlead-agent', 'registry.test:5000/fairlead-agent'],
])('what is missing in `%s` is marked so that no shell runs it', (typed, repository) => {
  expect(imageIn(typed)).toEqual([`image.repository=${repository}`, 'image.tag=<tag>'])
})
