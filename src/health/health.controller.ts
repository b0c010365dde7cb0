/** The operators' endpoints (D38). On a listener of their own: no peer can reach them, and no secret is in them (B22). */
import { BadRequestException, Controller, Get, Header, Inject, Query } from '@nestjs/common';
import { HealthCheck, HealthCheckService, HealthIndicatorService, type HealthCheckResult } from '@nestjs/terminus';
import { formatPosition, parsePosition, type Position } from '../core/model/position.js';
import { READINESS, type Readiness } from '../core/ports/readiness.js';
import { PrometheusMetrics } from './prometheus-metrics.js';

@Controller()
export class HealthController {
  constructor(
    @Inject(HealthCheckService) private readonly health: HealthCheckService,
    @Inject(HealthIndicatorService) private readonly indicators: HealthIndicatorService,
    @Inject(READINESS) private readonly readiness: Readiness,
    @Inject(PrometheusMetrics) private readonly numbers: PrometheusMetrics,
  ) {}

  /** The process turns its event loop; nothing else is touched. */
  @Get('healthz')
  alive(): { readonly status: 'ok' } {
    return { status: 'ok' };
  }

  /** 200 when peers may be sent here, else 503 and why. `?applied=X/Y`: only once that position is applied everywhere. */
  @Get('readyz')
  @HealthCheck()
  ready(@Query('applied') applied?: string): Promise<HealthCheckResult> {
    const wanted = applied === undefined ? undefined : parsePosition(applied);
    if (applied !== undefined && wanted === undefined) throw new BadRequestException('applied must be a position X/Y');
    return this.health.check([() => this.#serving(), () => this.#applied(wanted), () => this.#slot()]);
  }

  @Get('metrics')
  @Header('content-type', 'text/plain; version=0.0.4; charset=utf-8')
  metrics(): Promise<string> {
    return this.numbers.text();
  }

  #serving() {
    const indicator = this.indicators.check('serving');
    const problems = this.readiness.problems();
    return problems.length === 0 ? indicator.up() : indicator.down({ problems });
  }

  #applied(wanted: Position | undefined) {
    const indicator = this.indicators.check('stream');
    const position = this.readiness.appliedPosition();
    const facts = { applied: formatPosition(position) };
    return wanted === undefined || position >= wanted ? indicator.up(facts) : indicator.down(facts);
  }

  /** For the operator's eyes: whether peers may come is decided by what the slot's state leads to, not by the state. */
  #slot() {
    const indicator = this.indicators.check('slot');
    const slot = this.readiness.slot();
    if (slot === undefined) return indicator.up({ state: 'unknown' });
    const { state, retainedBytes, lagBytes, safeWalBytes, invalidation } = slot;
    return indicator.up({
      state,
      retained_bytes: retainedBytes ?? null,
      lag_bytes: lagBytes ?? null,
      safe_wal_bytes: safeWalBytes ?? null,
      invalidation: invalidation ?? null,
    });
  }
}
