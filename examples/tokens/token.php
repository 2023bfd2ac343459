<?php
// A viewer's token, with nothing but PHP: LIVE_SECRET=... php token.php SUB SHOW
function part(string $data): string
{
    return rtrim(strtr(base64_encode($data), '+/', '-_'), '=');
}

[, $sub, $show] = $argv;
$secret = explode(',', getenv('LIVE_SECRET'))[0]; // of two, the first one signs
$claims = ['sub' => $sub, 'role' => 'viewer', 'shows' => [$show], 'aud' => 'live'];
$claims += ['iat' => time(), 'exp' => time() + 3600];
$signed = part('{"alg":"HS256","typ":"JWT"}') . '.' . part(json_encode($claims));
echo $signed . '.' . part(hash_hmac('sha256', $signed, $secret, true)) . "\n";
