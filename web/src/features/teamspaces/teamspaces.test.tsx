import { screen, within } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { beforeEach, expect, test } from 'vitest'
import { openConsole } from '../../testing/console'
import {
  ada,
  answers,
  aService,
  aTeamspace,
  changeFeed,
  refuses,
  takes,
} from '../../testing/fake-hub'

beforeEach(() => {
  answers('/api/v1/me', ada)
  answers('/api/v1/sessions', { sessions: [] })
})

function showing(teamspaces: ReturnType<typeof aTeamspace>[], mayCreate = false) {
  answers('/api/v1/teamspaces', { teamspaces, may: { create: mayCreate } })
}

test('teamspaces are listed with what the hub sees of them', async () => {
  changeFeed()
  showing([aTeamspace({ services: 9 }), aTeamspace({ id: 't-2', name: 'eu', status: 'locked' })])
  openConsole('/')
  const cards = await screen.findAllByRole('listitem')
  expect(cards).toHaveLength(2)
  expect(cards[0]).toHaveTextContent(/staging.*Connected.*Services9.*1 replica/)
  expect(cards[1]).toHaveTextContent(/eu.*Locked/)
  expect(screen.getByRole('heading', { level: 1 })).toHaveTextContent('Teamspaces')
})

test('an announced change is shown without a reload', async () => {
  const feed = changeFeed()
  showing([aTeamspace({ status: 'disconnected' })])
  openConsole('/')
  await screen.findByText('Disconnected')
  await screen.findByText('Live')
  showing([aTeamspace({ status: 'connected' })])
  feed.announce('teamspaces')
  expect(await screen.findByText('Connected')).toBeVisible()
})

test('a lost change feed is said, and what was missed is asked for', async () => {
  const feed = changeFeed()
  showing([aTeamspace({ status: 'disconnected' })])
  openConsole('/')
  await screen.findByText('Live')
  showing([aTeamspace({ status: 'connected' })])
  feed.hangUp()
  expect(await screen.findByText('Reconnecting')).toBeVisible()
  expect(await screen.findByText('Live', {}, { timeout: 3_000 })).toBeVisible()
  expect(await screen.findByText('Connected')).toBeVisible()
  expect(feed.opened).toBe(2)
})

test('whoever may create learns how, whoever may not learns whom to ask', async () => {
  changeFeed()
  showing([], true)
  openConsole('/')
  expect(await screen.findByText(/Create a teamspace and run one Helm command/)).toBeVisible()
  expect(screen.getAllByRole('button', { name: 'New teamspace' })).toHaveLength(1)
})

test('nothing is offered that the hub says is not allowed', async () => {
  changeFeed()
  showing([], false)
  openConsole('/')
  expect(await screen.findByText(/Ask an owner or admin/)).toBeVisible()
  expect(screen.queryByRole('button', { name: 'New teamspace' })).toBeNull()
})

test('a refusal names the policy that decided', async () => {
  changeFeed()
  refuses('get', '/api/v1/teamspaces', 403, {
    message: 'You may not see the teamspaces of Acme.',
    hint: 'Ask an owner for the role viewer.',
    policies: ['see-needs-a-role'],
  })
  openConsole('/')
  const notice = await screen.findByRole('alert')
  expect(notice).toHaveTextContent(/Not allowed.*see-needs-a-role.*Ask an owner/)
})

test('a new teamspace leads to a Helm command with a token shown once', async () => {
  changeFeed()
  showing([], true)
  const created = aTeamspace({
    status: 'waiting',
    key_thumbprint: null,
    may: { enrol: true, delete: true },
  })
  const post = takes('post', '/api/v1/teamspaces', 201, created)
  answers('/api/v1/teamspaces/t-staging', created)
  takes('post', '/api/v1/teamspaces/t-staging/join-tokens', 201, {
    id: 'j',
    token: 'flj_once',
    expires_at: new Date(Date.now() + 1_800_000).toISOString(),
  })
  const user = userEvent.setup()
  const page = openConsole('/')
  await user.click(await screen.findByRole('button', { name: 'New teamspace' }))
  await user.type(await screen.findByLabelText(/Name/), ' staging ')
  await user.click(screen.getByRole('button', { name: 'Create' }))
  await user.click(await screen.findByRole('button', { name: 'Make a join token' }))
  const command = await screen.findByRole('region', { name: 'Helm command' })
  expect(command).toHaveTextContent('--set hub.url=https://hub.test')
  expect(command).toHaveTextContent('--set joinToken.value=flj_once')
  expect(command).toHaveTextContent('--set image.repository=<your-registry>/fairlead-agent')
  await user.type(screen.getByLabelText('Image of the agent'), 'registry.test/fairlead-agent:1')
  expect(command).toHaveTextContent('--set image.repository=registry.test/fairlead-agent ')
  expect(command).toHaveTextContent('--set-string image.tag=1 ')
  expect(post.sent).toEqual([{ name: 'staging' }])
  expect(page.here()).toBe('/teamspaces/t-staging')
})

test('the key thumbprint is shown to compare, and a copied key locks the page', async () => {
  changeFeed()
  const teamspace = aTeamspace({
    status: 'locked',
    lock_reason: 'Its key was presented by another cluster.',
  })
  answers('/api/v1/teamspaces/t-staging', teamspace)
  answers('/api/v1/teamspaces/t-staging/services', { services: [aService()] })
  openConsole('/teamspaces/t-staging')
  expect(await screen.findByText(teamspace.key_thumbprint ?? '')).toBeVisible()
  expect(screen.getByText(/presented by another cluster/)).toBeVisible()
})

test('a new page begins at its content', async () => {
  changeFeed()
  showing([aTeamspace()])
  answers('/api/v1/teamspaces/t-staging', aTeamspace())
  answers('/api/v1/teamspaces/t-staging/services', { services: [] })
  const user = userEvent.setup()
  openConsole('/')
  await user.click(await screen.findByRole('link', { name: 'staging' }))
  await screen.findByRole('heading', { level: 1, name: 'staging' })
  expect(screen.getByRole('main')).toHaveFocus()
})

test('a teamspace that I may not see looks like one that does not exist', async () => {
  changeFeed()
  refuses('get', '/api/v1/teamspaces/t-x', 404, { message: 'No such teamspace.' })
  openConsole('/teamspaces/t-x')
  const notice = await screen.findByRole('alert')
  expect(within(notice).getByText('No such teamspace.')).toBeVisible()
})
