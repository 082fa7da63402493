import { screen, within } from '@testing-library/react'
import userEvent from '@testing-library/user-event'
import { beforeEach, expect, test } from 'vitest'
import { openConsole } from '../../testing/console'
import { ada, answers, aService, aTeamspace, changeFeed } from '../../testing/fake-hub'

const refusal = 'Headless services cannot be intercepted.'

beforeEach(() => {
  answers('/api/v1/me', ada)
  answers('/api/v1/sessions', { sessions: [] })
  answers('/api/v1/teamspaces/t-staging', aTeamspace({ services: 2 }))
  answers('/api/v1/teamspaces/t-staging/services', {
    services: [
      aService(),
      aService({
        namespace: 'payments',
        name: 'api',
        may: { consume: false, intercept: true },
        intercept_refusal: refusal,
      }),
    ],
  })
})

test('a filter narrows the services, and Escape widens them again', async () => {
  changeFeed()
  const user = userEvent.setup()
  openConsole('/teamspaces/t-staging')
  await screen.findByText('2 services')
  await user.keyboard('/')
  expect(screen.getByRole('searchbox', { name: 'Filter services' })).toHaveFocus()
  await user.keyboard('payments')
  expect(await screen.findByText('1 of 2 services')).toBeVisible()
  await user.keyboard('{Escape}')
  expect(await screen.findByText('2 services')).toBeVisible()
})

test('what is allowed comes with its command, what is not with the reason', async () => {
  changeFeed()
  const user = userEvent.setup()
  openConsole('/teamspaces/t-staging')
  await user.click(await screen.findByRole('button', { name: 'intercept shop/cart: allowed' }))
  expect(await screen.findByRole('dialog')).toHaveTextContent('fairlead intercept shop/cart 8080')
  await user.keyboard('{Escape}')
  await user.click(screen.getByRole('button', { name: 'intercept payments/api: not possible' }))
  expect(await screen.findByRole('dialog')).toHaveTextContent(refusal)
  await user.keyboard('{Escape}')
  await user.click(screen.getByRole('button', { name: 'consume payments/api: not allowed' }))
  expect(await screen.findByRole('dialog')).toHaveTextContent('No policy lets you consume')
})

test('a service without pods is told so, whoever has intercepted it', async () => {
  changeFeed()
  const intercepts = [{ session_id: 's', email: 'grace@example.test', phase: 'active' as const }]
  answers('/api/v1/teamspaces/t-staging/services', {
    services: [
      aService({ name: 'cart', ready_endpoints: 2, intercepts }),
      aService({ name: 'pay', ready_endpoints: 0, intercepts }),
      aService({ name: 'web', type: 'ExternalName', ready_endpoints: 0 }),
    ],
  })
  openConsole('/teamspaces/t-staging')
  const ready = async (name: RegExp) => {
    const row = await screen.findByRole('row', { name })
    return within(row).getAllByRole('cell')[2]
  }
  expect(await ready(/shop\/cart/)).toHaveTextContent(/^2$/)
  expect(await ready(/shop\/pay/)).toHaveTextContent(/^none$/)
  expect(await ready(/shop\/web/)).toHaveTextContent('–')
})

test('who holds a service appears as soon as it is announced', async () => {
  const feed = changeFeed()
  openConsole('/teamspaces/t-staging')
  await screen.findByText('2 services')
  await screen.findByText('Live')
  const intercepts = [{ session_id: 's', email: 'grace@example.test', phase: 'preparing' as const }]
  answers('/api/v1/teamspaces/t-staging/services', { services: [aService({ intercepts })] })
  feed.announce('sessions')
  const table = await screen.findByRole('table')
  expect((await within(table).findAllByText('grace@example.test'))[0]).toBeInTheDocument()
  expect(within(table).getAllByText('Preparing')[0]).toBeInTheDocument()
})
