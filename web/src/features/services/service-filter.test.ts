import { expect, test } from 'vitest'
import { aService } from '../../testing/fake-hub'
import { matching } from './service-filter'

const cart = aService()
const api = aService({
  namespace: 'payments',
  name: 'api',
  workload: 'StatefulSet/ledger',
  ports: [{ name: 'grpc', port: 50051, protocol: 'TCP', target_port: '50051' }],
  intercepts: [{ session_id: 's', email: 'grace@example.test', phase: 'active' }],
})
const found = (text: string) => matching([cart, api], text).map(({ name }) => name)

test('an empty filter keeps everything', () => {
  expect(found('  ')).toEqual(['cart', 'api'])
})

test.each([
  ['shop/ca', 'cart'],
  ['cart.shop', 'cart'],
  ['PAYMENTS', 'api'],
  ['50051', 'api'],
  ['ledger', 'api'],
  ['grace', 'api'],
])('%s finds %s', (text, name) => {
  expect(found(text)).toEqual([name])
})

test('every word has to match', () => {
  expect(found('payments grpc')).toEqual(['api'])
  expect(found('shop grpc')).toEqual([])
})
