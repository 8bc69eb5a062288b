-- Run once, on an empty data folder. `mlflow` is there already: POSTGRES_DB.
CREATE DATABASE mlflow_auth;
CREATE DATABASE catalog;
CREATE DATABASE optuna;
