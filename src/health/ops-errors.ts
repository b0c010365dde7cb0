import { type ArgumentsHost, Catch, type ExceptionFilter, NotFoundException } from '@nestjs/common';
import type { ServerResponse } from 'node:http';

/** Nest's own answer repeats the path, and a path may hold a token that somebody pasted (B26). */
@Catch(NotFoundException)
export class OpsErrors implements ExceptionFilter {
  catch(_error: NotFoundException, host: ArgumentsHost): void {
    const response = host.switchToHttp().getResponse<ServerResponse>();
    response.writeHead(404, { 'content-type': 'application/problem+json' });
    response.end('{"status":404,"code":"not_found","title":"Not found"}');
  }
}
