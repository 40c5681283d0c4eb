// Answers as a lenient application does: decodes all, takes a backslash for a slash, cuts parameters, resolves dots.
const path = require('path');
require('http').createServer((request, response) => {
  let name = request.url.split('?')[0];
  try {
    name = decodeURIComponent(decodeURIComponent(name));
  } catch {
    response.writeHead(400).end('bad\n');
    return;
  }
  name = name.replace(/\\/g, '/').split('/').map((part) => part.split(/[;?#]/)[0]).join('/');
  response.end(/^\/admin(\/|$)/.test(path.posix.normalize(name)) ? 'the secret\n' : 'open\n');
}).listen(Number(process.argv.at(-1)), '0.0.0.0');
