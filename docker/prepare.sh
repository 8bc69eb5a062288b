#!/bin/sh
# Make the folder that compose.yaml keeps everything in: data, and secrets that only you can read.
#
#   sh docker/prepare.sh FOLDER
#
# Secrets are drawn once and never shown; run again, it adds what is missing and changes nothing. Containers run as the
# user who runs this, so that they can read files of mode 0600.
set -eu
umask 077

if [ $# -ne 1 ]; then
  echo "usage: $0 FOLDER" >&2
  exit 2
fi
if [ "$(id -u)" -eq 0 ]; then
  echo "Run this as the user whom the containers shall run as, not as root: Postgres refuses root." >&2
  exit 1
fi
if ! command -v openssl > /dev/null; then
  echo "openssl isn't installed, which makes a certificate." >&2
  exit 1
fi
mkdir -p "$1/secrets" "$1/data/s3" "$1/data/postgres"
folder=$(cd "$1" && pwd)

drawn() {
  od -An -N "$1" -tx1 /dev/urandom | tr -d ' \n'
}

# Write what comes in to a secret that isn't there yet, whole or not at all.
keep() {
  if [ -e "$folder/secrets/$1" ]; then
    cat > /dev/null
  else
    cat > "$folder/secrets/.$1"
    mv "$folder/secrets/.$1" "$folder/secrets/$1"
  fi
}

# Passwords that two files hold are drawn into one, and read from there.
password() {
  drawn 20 | keep "$1"
  cat "$folder/secrets/$1"
}

keep aws_credentials << EOF
[default]
aws_access_key_id = $(drawn 8)
aws_secret_access_key = $(drawn 20)

[admin]
aws_access_key_id = $(drawn 8)
aws_secret_access_key = $(drawn 20)

[reader]
aws_access_key_id = $(drawn 8)
aws_secret_access_key = $(drawn 20)
EOF

key() {
  sed -n "/^\[$1\]/,/^\$/s/^$2 = //p" "$folder/secrets/aws_credentials"
}

identity() {
  printf '{"name": "%s", "credentials": [{"accessKey": "%s", "secretKey": "%s"}], "actions": [%s]}' \
    "$1" "$(key "$1" aws_access_key_id)" "$(key "$1" aws_secret_access_key)" "$2"
}

keep s3.json << EOF
{"identities": [
  $(identity default '"Read", "Write", "List", "Tagging"'),
  $(identity admin '"Admin", "Read", "Write", "List", "Tagging"'),
  $(identity reader '"Read", "List"')
]}
EOF

# What S3 serves by gRPC takes new keys from whoever reaches it. It asks for a certificate that this authority signed,
# whose key is thrown away: nobody gets in.
certificate() {
  openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 36500 -subj "/CN=$1" \
    -keyout "$folder/secrets/.$1.key" -out "$folder/secrets/.$1.crt" 2> /dev/null
}
if [ ! -e "$folder/secrets/s3_authority.crt" ]; then
  certificate s3_control
  certificate s3_authority
  rm "$folder/secrets/.s3_authority.key"
  for name in s3_control.key s3_control.crt s3_authority.crt; do
    mv "$folder/secrets/.$name" "$folder/secrets/$name"
  done
fi

postgres=$(password postgres_password)
keep pgpass << EOF
*:5432:*:i2idist:$postgres
EOF

mlflow=$(password mlflow_password)
keep mlflow_auth.ini << EOF
[mlflow]
default_permission = READ
database_uri = postgresql+psycopg://i2idist@postgres:5432/mlflow_auth?passfile=/run/secrets/pgpass
admin_username = i2idist
admin_password = $mlflow
authorization_function = mlflow.server.auth:authenticate_request_basic_auth
EOF
keep mlflow_credentials << EOF
[mlflow]
mlflow_tracking_username = i2idist
mlflow_tracking_password = $mlflow
EOF
drawn 32 | keep mlflow_flask_key

drawn 32 | keep ray_token

redis=$(password redis_password)
keep redis.conf << EOF
requirepass $redis
EOF

cat > "$folder/env" << EOF
I2IDIST_HOME=$folder
I2IDIST_UID=$(id -u)
I2IDIST_GID=$(id -g)
EOF
echo "Ready: docker compose --env-file $folder/env -f docker/compose.yaml up --detach --wait"
